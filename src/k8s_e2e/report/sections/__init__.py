"""The sections of the report, one module each; `k8s_e2e.report.build` puts them together."""
