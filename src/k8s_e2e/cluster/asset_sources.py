"""The ways to make a bundle: download its releases, build its module, unpack packages, use the system's."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from k8s_e2e.base import process
from k8s_e2e.base.lock import locked
from k8s_e2e.base.progress import Progress
from k8s_e2e.cluster import debian, download, gobuild
from k8s_e2e.cluster.bundles import Bundle
from k8s_e2e.model.settings import Settings

SCRATCH = ".go"
"""Go's build cache, beside the cache entries, while there is something to build."""
_CHECK_S = 20.0
Fill = Callable[[Path], dict[str, str]]
"""Fills a directory with a bundle; returns asset -> version where that differs from the pinned one."""


class Sources:
    """The sources of one bundle; ``still_to_build``: others will be built, too, and gain from this build's cache."""

    def __init__(self, bundle: Bundle, settings: Settings, progress: Progress, *, still_to_build: bool) -> None:
        self._bundle, self._settings, self._progress = bundle, settings, progress
        self._still_to_build = still_to_build

    def in_order(self) -> Iterator[tuple[str, Fill]]:
        """Yield name and function of each source that this bundle has and the settings allow."""
        if self._bundle.releases and not self._settings.offline:
            yield "download", self._download
        if self._bundle.build:
            yield "build", self._build
        if self._bundle.packages:
            yield "debian", self._unpack
        if self._bundle.name == "netfilter":
            yield "system", self._link_system

    def _download(self, work: Path) -> dict[str, str]:
        mirror_url, timeout_s = self._settings.mirror_url, self._settings.download_timeout_s
        for release in self._bundle.releases:
            download.fetch(release, work, mirror_url=mirror_url, timeout_s=timeout_s, progress=self._progress)
        return {}

    def _build(self, work: Path) -> dict[str, str]:
        assert self._bundle.build
        scratch = work.with_name(SCRATCH)
        timeout_s = self._settings.build_timeout_s
        # One at a time: two would need twice the memory and take as long.
        lock = work.with_name(f"{SCRATCH}.lock")
        with locked(lock, what="another build", timeout_s=timeout_s, progress=self._progress):
            gobuild.build(self._bundle.build, work, scratch, timeout_s=timeout_s, progress=self._progress)
            if not self._still_to_build:
                shutil.rmtree(scratch, ignore_errors=True)
        return {}

    def _unpack(self, work: Path) -> dict[str, str]:
        unpacked = work.with_name(f"{work.name}.apt")
        shutil.rmtree(unpacked, ignore_errors=True)
        try:
            timeout_s = self._settings.download_timeout_s
            versions = debian.unpack(self._bundle.packages, unpacked, timeout_s=timeout_s, progress=self._progress)
            arrange = debian.arrange_netfilter if self._bundle.name == "netfilter" else debian.arrange_runtime
            arrange(unpacked / "root", work)
        finally:
            shutil.rmtree(unpacked, ignore_errors=True)
        self._check_runs(work)
        return self._debian_versions(versions)

    def _link_system(self, work: Path) -> dict[str, str]:
        debian.link_system_netfilter(work)
        return {}

    def _check_runs(self, work: Path) -> None:
        """Refuse unpacked programs that do not start here: a library is missing, or another architecture's."""
        names = ("nft", "iptables") if self._bundle.name == "netfilter" else ("containerd", "runc")
        for name in names:
            process.run([work / "bin" / name, "--version"], timeout_s=_CHECK_S)

    def _debian_versions(self, packages: dict[str, str]) -> dict[str, str]:
        if self._bundle.name == "netfilter":
            return {"netfilter": f"nftables {packages['nftables']}, iptables {packages['iptables']}"}
        containerd = dict.fromkeys(("containerd", "ctr", "containerd-shim-runc-v2"), packages["containerd"])
        return {**containerd, "runc": packages["runc"], "cni": packages["containernetworking-plugins"]}
