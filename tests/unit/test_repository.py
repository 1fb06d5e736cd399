"""The repository keeps its own rules."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent


@pytest.mark.parametrize(
    "command",
    [
        ["ruff", "check", "."],
        ["ruff", "format", "--check", "."],
        ["mypy", "src", "operator/src", "services/src"],
        ["lint-imports"],
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_checks_pass(command):
    """Lint, format, types and layers are clean."""
    done = subprocess.run([str(BIN / command[0]), *command[1:]], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]


def _tracked() -> list[Path]:
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip("not a git checkout: there is no list of tracked files")
    return [ROOT / line for line in done.stdout.splitlines() if (ROOT / line).is_file()]


def test_only_the_command_line_prints():
    """No module of the kit outside of cli/ calls print or click.echo."""
    kit = ROOT / "src" / "k8s_e2e"
    printing = [
        str(path.relative_to(ROOT))
        for path in kit.rglob("*.py")
        if path.parent.name != "cli" and re.search(r"^\s*(print|click\.echo)\(", path.read_text(), re.MULTILINE)
    ]
    assert printing == []


PLATFORM = r"turbo|petstore|apigraph|environments?[_-]?id|envmanager|orchestrator|users-products"
PORTS = r"\b808[0-9]\b|:3000\b"
ALLOWED = {
    # A column that operator-actions.json has in the wild; empty, and left out, for operators without environments.
    "model/evidence.py": "environment_id",
    "report/frames.py": "environment_id",
    "report/run.py": "environment_id",
}


def test_the_kit_knows_no_platform():
    """No word and no port of Turbo Engine stands in the kit's own code or notebooks, but for those allowed above."""
    words = re.compile(f"{PLATFORM}|{PORTS}", re.IGNORECASE)
    kit = ROOT / "src" / "k8s_e2e"
    suffixes = {".py", ".j2", ".js", ".css", ".json"}
    sources = [path for path in kit.rglob("*") if path.suffix in suffixes]
    found = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in [*sources, *(ROOT / "notebooks").glob("*.py")]
        for match in words.finditer(path.read_text())
        if not (path.is_relative_to(kit) and ALLOWED.get(path.relative_to(kit).as_posix()) == match[0])
    ]
    assert found == []


def test_no_lock_file_names_a_registry():
    """Lock files pin by hash and name no index."""
    for path in _tracked():
        if path.name == "requirements.lock":
            text = path.read_text()
            assert "--index-url" not in text
            assert "https://" not in text
            assert "--hash=sha256:" in text
    assert not (ROOT / "uv.lock").exists() or ROOT / "uv.lock" not in _tracked()
