"""The sources of binaries that need no network of releases: a real build, and real Debian packages."""

import os
import re
from pathlib import Path

import pytest

from k8s_e2e.base import process
from k8s_e2e.cluster import apt, assets, bundles, doctor, gobuild
from k8s_e2e.model.settings import Settings

pytestmark = pytest.mark.cluster


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """An empty cache, and no downloads."""
    return Settings(cache_dir=tmp_path / "cache", offline=True)


def test_build_from_pinned_module(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A binary is built from its module; after the last one that was to be built Go's cache is gone."""
    monkeypatch.setattr(bundles, "BUNDLES", [bundles.bundle_of("pause")])
    if gobuild.find_go() is None:
        pytest.skip("there is no Go to build with")
    said: list[str] = []
    found = assets.ensure(["pause"], settings, said.append)
    assert found.sources == {"pause": "build"}
    assert said[0].startswith("building pause, usually 0.2 min")
    assert os.access(found.path("pause"), os.X_OK)
    left = {path.name for path in (settings.cache_dir / "assets").iterdir()}
    home = found.path("pause").parents[1].name
    assert left == {home, f".{home}.lock", ".go.lock"}


def test_netfilter_programs_bring_their_libraries(settings: Settings) -> None:
    """Nft and iptables out of packages run with their own libraries: nothing but libc is the system's."""
    if not apt.available():
        pytest.skip("this is no Debian")
    found = assets.ensure(["netfilter"], settings, print)
    assert found.sources == {"netfilter": "debian"}
    home = found.path("netfilter")
    assert "nftables v" in process.run([home / "nft", "--version"], timeout_s=10).stdout
    assert "nf_tables" in process.run([home / "iptables", "--version"], timeout_s=10).stdout
    for program in (home.parent / "libexec").iterdir():
        listed = process.run(["ldd", program], timeout_s=10, env={"LD_LIBRARY_PATH": str(home.parent / "lib")}).stdout
        systems = re.findall(rf"(\S+) => (?!{re.escape(str(home.parent))})", listed)
        assert systems == ["libc.so.6"]


def test_doctor_tries_the_kernel_for_real(settings: Settings) -> None:
    """On a machine that runs these tests, every kernel feature works when tried in throwaway namespaces."""
    checks = {check.name: check for check in doctor.examine(settings)}
    for name in ("Linux", "root", "namespaces", "overlay", "veth", "bridge", "bridge filtering"):
        assert checks[name].ok, checks[name]
