"""Imports all that k8s mode imports, early or late: the image build runs it to see that nothing is missing."""

import importlib

from turbo_operator.kube import package

LATE = (
    "turbo_operator.__main__",
    "turbo_operator.kube.applier",
    "turbo_operator.kube.graphs",
    "opentelemetry.exporter.otlp.proto.http.trace_exporter",
)


def import_all() -> None:
    """Import everything.

    Raises:
        ImportError: something is missing.
    """
    for module in LATE:
        importlib.import_module(module)
    package.configuration_class()
    package.transport_class()
    package.incluster_module()


if __name__ == "__main__":
    import_all()
