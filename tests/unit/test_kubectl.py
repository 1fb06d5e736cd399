"""A kubectl without the rest of Kubernetes, for clusters that somebody else runs."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from k8s_e2e.base.errors import EnvironmentFailure
from k8s_e2e.base.progress import silent
from k8s_e2e.cluster import bundles, gobuild, kubectl
from k8s_e2e.model.settings import Settings
from tests.unit.test_download import Mirror

RELEASE = f"/release/v{bundles.KUBERNETES}/bin/{bundles.SYSTEM}/{bundles.ARCHITECTURE}/kubectl"


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    """A mirror that has nothing yet."""
    served = Mirror()
    yield served
    served.server.shutdown()
    served.server.server_close()


def test_only_kubectl_is_downloaded(mirror: Mirror, tmp_path: Path) -> None:
    """Where nothing is there yet the one program comes, not the bundle that it is part of."""
    mirror.add(RELEASE, b"the official one")
    settings = Settings(cache_dir=tmp_path, mirror_url=mirror.url)
    assert kubectl.own(settings, silent).read_bytes() == b"the official one"
    assert [entry.name.partition("-")[0] for entry in (tmp_path / "assets").iterdir() if entry.is_dir()] == ["kubectl"]


def test_what_is_given_comes_first(tmp_path: Path) -> None:
    """A directory of one's own is asked before anything is fetched."""
    (tmp_path / "kubectl").touch()
    settings = Settings(cache_dir=tmp_path / "cache", bin_dir=tmp_path, offline=True)
    assert kubectl.own(settings, silent) == tmp_path / "kubectl"


def test_where_it_cannot_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On Linux the whole bundle is the last way; elsewhere its programs would not run, so one is asked for."""
    monkeypatch.setattr(gobuild, "find_go", lambda: None)
    settings = Settings(cache_dir=tmp_path, offline=True)
    with pytest.raises(EnvironmentFailure, match=r"cannot get kubernetes .*Go is not installed"):
        kubectl.own(settings, silent)
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(EnvironmentFailure, match=r"cannot get kubectl .*put a kubectl on PATH"):
        kubectl.own(settings, silent)
