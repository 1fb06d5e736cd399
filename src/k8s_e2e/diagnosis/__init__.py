"""Why a run ended as it did: deterministic rules over the sealed files, ranked, with evidence."""

from k8s_e2e.diagnosis.engine import diagnose

__all__ = ["diagnose"]
