"""What a whole run leaves, and profiles with one thing broken."""

import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
KIT = Path(sys.executable).parent / "k8s-e2e"


class Ran(NamedTuple):
    """A finished run: its exit code, its directory, what it printed."""

    code: int
    path: Path
    output: str

    def json(self, name: str) -> Any:
        """Return one JSON file of the run directory."""
        return json.loads((self.path / name).read_text())

    @property
    def first_screen(self) -> str:
        """The first 40 lines of REPORT.md."""
        return "\n".join((self.path / "REPORT.md").read_text().splitlines()[:40])


def patched_profile(folder: Path, patch: str) -> Path:
    """Write a profile like the shipped one whose overlay has one more patch."""
    overlay = folder / "overlay"
    overlay.mkdir()
    base = Path("/".join([".."] * len(overlay.parts))) / str(ROOT / "infra/k8s/overlays/ci").lstrip("/")
    (overlay / "kustomization.yaml").write_text(f"resources: [{base}]\npatches:\n- patch: |\n{_indent(patch)}")
    text = (ROOT / "k8s-e2e.toml").read_text()
    text = text.replace('overlay = "infra/k8s/overlays/ci"', f'overlay = "{overlay}"')
    text = text.replace('scenario_dir = "scenarios"', f'scenario_dir = "{ROOT / "scenarios"}"')
    for context in ("operator", "services"):
        text = text.replace(f'context = "{context}"', f'context = "{ROOT / context}"')
    path = folder / "k8s-e2e.toml"
    path.write_text(text)
    return path


def _indent(text: str) -> str:
    return "".join(f"    {line}\n" for line in text.strip().splitlines())
