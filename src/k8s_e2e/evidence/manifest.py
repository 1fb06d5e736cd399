"""The seal over everything observed: manifest.json, and checking it."""

from k8s_e2e.model.evidence import Manifest, Part
from k8s_e2e.model.layout import RunDir


def seal(run: RunDir, parts: list[Part], run_id: str = "") -> Manifest:
    """Write manifest.json over the observed files of ``run`` (hash, size, rows, cuts, redactions of each)."""
    raise NotImplementedError


def verify(run: RunDir) -> list[str]:
    """Return what differs from the seal, one sentence a file; empty if nothing does."""
    raise NotImplementedError
