"""System packages: said before installed, asked for where they may not be."""

import os
from pathlib import Path

import pytest

from k8s_e2e.base.errors import EnvironmentFailure
from k8s_e2e.base.progress import silent
from k8s_e2e.cluster import system_packages
from k8s_e2e.model.settings import Settings


def test_nothing_happens_when_all_is_there():
    """Programs on the PATH ask for no package."""
    system_packages.ensure({"sh": "dash"}, Settings(no_install=True), silent)


def test_a_refusal_names_the_packages_and_the_command():
    """With no_install the error holds the exact command that mends it."""
    with pytest.raises(EnvironmentFailure, match="system packages are missing: no-such-package") as caught:
        system_packages.ensure({"no-such-program": "no-such-package"}, Settings(no_install=True), silent)
    assert caught.value.hint.endswith("apt-get install -y --no-install-recommends no-such-package")


@pytest.fixture
def apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An apt-get whose update fails, and the file that its other calls are written to."""
    calls = tmp_path / "calls"
    program = tmp_path / "apt-get"
    program.write_text(
        f'#!/bin/sh\ncase "$*" in *update*) echo E: a source does not answer >&2; exit 100;; esac\n'
        f'echo "$@" >> {calls}\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return calls


def test_an_update_that_fails_is_told_and_does_not_keep_from_installing(apt: Path):
    """Package lists that cannot be brought up to date are no reason not to install; a held lock is waited for."""
    said: list[str] = []
    system_packages.ensure({"no-such-program": "some-package"}, Settings(), said.append)
    assert said[-1] == "apt-get update failed, installing all the same: E: a source does not answer"
    assert apt.read_text().split() == [
        *("-o", "DPkg::Lock::Timeout=120"),
        *("install", "-y", "-qq", "--no-install-recommends", "some-package"),
    ]
