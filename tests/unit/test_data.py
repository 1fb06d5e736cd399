"""Where shipped files are found, and how long work says that it goes on."""

import time
from pathlib import Path

import pytest

from k8s_e2e.base import data
from k8s_e2e.base.progress import ticking


def test_checkout_brings_its_own_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run from a checkout, files come from its root."""
    checkout = Path(__file__).parents[2]
    monkeypatch.setattr(data, "_PACKAGE", checkout / "src" / "k8s_e2e")
    assert data.data_dir() == checkout


def test_what_a_run_needs_is_there() -> None:
    """Run from a checkout or from a wheel, the files are found."""
    for name in ("k8s-e2e.toml", "infra/local/addons.yaml", "notebooks/report.py", "operator/Dockerfile"):
        assert (data.data_dir() / name).is_file()


def test_installed_package_brings_them_inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Installed from a wheel, files come from inside the package."""
    package = tmp_path / "site-packages" / "k8s_e2e"
    monkeypatch.setattr(data, "_PACKAGE", package)
    assert data.data_dir() == package / "_data"


def test_long_work_says_that_it_goes_on() -> None:
    """Progress is told at once, then again and again with the time spent, and stops with the work."""
    said: list[str] = []
    with ticking(said.append, "building x", note="usually 6 min", every_s=0.05):
        time.sleep(0.3)
    told = len(said)
    assert said[0] == "building x, usually 6 min"
    assert said[1] == "building x... 0:00, usually 6 min"
    assert told >= 3
    time.sleep(0.15)
    assert len(said) == told
