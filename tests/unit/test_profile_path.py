"""Which profile a command takes."""

import pytest

from k8s_e2e.base.errors import UsageError
from k8s_e2e.cli.shared import profile_path


def test_the_nearest_profile_above_is_taken(tmp_path, monkeypatch):
    """A command works in any directory of a project."""
    (tmp_path / "k8s-e2e.toml").touch()
    (tmp_path / "deep" / "down").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "deep" / "down")
    assert profile_path(None) == tmp_path / "k8s-e2e.toml"


def test_outside_of_a_project_nothing_is_guessed(tmp_path, monkeypatch):
    """Where no profile is, somebody else's platform is not run instead: the error says how to name one."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"there is no k8s-e2e\.toml in") as raised:
        profile_path(None)
    assert "--profile FILE" in raised.value.hint
