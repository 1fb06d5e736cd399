"""What this machine can run, what is missing, and the exact command that mends it."""

import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec

from k8s_e2e.base import process
from k8s_e2e.base.errors import EnvironmentFailure
from k8s_e2e.cluster import assets, bundles, docker, gobuild, machine, system_packages
from k8s_e2e.cluster.bundles import Bundle
from k8s_e2e.cluster.kind import program
from k8s_e2e.cluster.local import cgroups
from k8s_e2e.cluster.machine import Machine
from k8s_e2e.model.settings import Settings

_GB = 1e9
_DISK_BUILD_GB = 12.0  # Go's caches while Kubernetes is built, images, a cluster
_DISK_GB = 4.0
_MEMORY_BUILD_GB = 3.5  # the linker of the Kubernetes binary
_MEMORY_GB = 1.5
_PROBE_S = 30.0
_PROGRAM_S = 10.0
_MODULES = {"overlay": "overlay", "veth": "veth", "bridge": "bridge", "nftables": "nf_tables"}
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One thing looked at. ``fix`` is a command; without ``required`` a run can do without it."""

    name: str
    ok: bool
    found: str
    fix: str = ""
    required: bool = True


def examine(settings: Settings) -> list[Check]:
    """Look at everything a run on this machine needs; nothing is changed, downloaded or built.

    What `auto` takes here decides what is needed: for kind neither root nor the local cluster's programs, for the local
    provider neither a Docker engine nor kind.
    """
    this = machine.here()
    taken, told = _provider(this)
    if taken == "kind":
        return [told, *_room(settings, building=False), *_browser(), *_image_builders(this), *_kind(settings)]
    own = [bundle for bundle in bundles.BUNDLES if bundle.provider == "local"]
    building = any(
        bundle.build and not _in_directory(bundle, settings) and not _cached(bundle, settings) for bundle in own
    )
    return [
        told,
        *_system(this),
        *_kernel(settings),
        *_room(settings, building=building),
        *_go(needed=building),
        *_browser(),
        *_image_builders(this),
        *(_asset(bundle, settings) for bundle in own),
        Check(name="kind", ok=True, found=f"{_kind_on_path()}; only --provider kind needs it", required=False),
    ]


def _provider(this: Machine) -> tuple[str, Check]:
    try:
        choice = machine.choose(this)
    except EnvironmentFailure as error:
        return "", Check(name="provider", ok=False, found=error.message, fix=error.hint)
    return choice.provider, Check(name="provider", ok=True, found=f"auto takes {choice.provider}: {choice.why}")


def _kind(settings: Settings) -> Iterator[Check]:
    """Look for the programs of kind clusters: the user's own, or how the kit's come."""
    found = shutil.which("kind")
    if found and program.fits(program.version_of(Path(found))):
        yield Check(name="kind", ok=True, found=_kind_on_path())
    else:
        yield _asset(bundles.bundle_of("kind"), settings)
    client = shutil.which("kubectl")
    if client:
        yield Check(name="kubectl", ok=True, found=f"{client}; the kit's own where it does not fit the cluster")
    else:
        yield _asset(bundles.bundle_of("kubectl-alone"), settings)


def _kind_on_path() -> str:
    found = shutil.which("kind")
    return f"{program.version_of(Path(found)) or 'no known version'} ({found})" if found else "not on PATH"


def _system(this: Machine) -> Iterator[Check]:
    linux = this.system == "linux"
    release = platform.release()
    fix = machine.instead_of_local(this)
    yield Check(name="Linux", ok=linux, found=f"{platform.system()} {release}", fix=fix)
    if not linux:
        return
    yield Check(name="root", ok=this.root, found=f"user id {os.geteuid()}", fix=fix)
    if cgroups.is_v2():
        yield Check(name="cgroups", ok=True, found="version 2 (the local provider is untested on it)")
        return
    first, second = cgroups.hierarchies()
    names = {name for point in first for name in point.name.split(",")}
    lacking = sorted({"cpu", "cpuset", "memory", "pids"} - names)
    found = f"version 1: {', '.join(sorted(names))}" + (", version 2 beside it" if second else "")
    fix = "boot with cgroup_enable=" + ",".join(lacking) if lacking else ""
    yield Check(name="cgroups", ok=not lacking, found=found if first else "none is mounted", fix=fix)


def _kernel(settings: Settings) -> Iterator[Check]:
    """Try each feature in throwaway namespaces: a module that loads on use counts as there."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return
    if not shutil.which("ip"):
        yield Check(name="ip", ok=False, found="not installed", fix=system_packages.command(["iproute2"]))
        return
    record = assets.cached("netfilter", settings)
    home = assets.home_of(bundles.bundle_of("netfilter"), settings)
    nft = str(home / "bin" / "nft") if record else shutil.which("nft") or ""
    with tempfile.TemporaryDirectory(prefix="k8s-e2e-probe-") as scratch:
        probe = [sys.executable, "-P", "-m", "k8s_e2e.cluster.local.probe", scratch, *([nft] if nft else [])]
        source = str(Path(__file__).resolve().parents[2])
        try:
            said = process.run(probe, timeout_s=_PROBE_S, env={"PYTHONPATH": source}).stdout
            answers: dict[str, str] = json.loads(said)
        except (EnvironmentFailure, json.JSONDecodeError) as error:
            yield Check(name="namespaces", ok=False, found=str(error), fix="run it outside of a restricted container")
            return
    for feature, problem in answers.items():
        module = _MODULES.get(feature, "br_netfilter")
        fix = "run it outside of a restricted container" if feature == "namespaces" else f"modprobe {module}"
        yield Check(name=feature, ok=not problem, found=problem or "works", fix=fix if problem else "")
    if "nftables" not in answers:
        found = "not tried: no nft here yet, it comes with the first cluster"
        yield Check(name="nftables", ok=True, found=found)


def _room(settings: Settings, *, building: bool) -> Iterator[Check]:
    wanted = _DISK_BUILD_GB if building else _DISK_GB
    for name, directory in (("disk for the cache", settings.cache_dir), ("disk for clusters", settings.state_dir)):
        there = next(path for path in (directory.absolute(), *directory.absolute().parents) if path.exists())
        free = shutil.disk_usage(there).free / _GB
        yield Check(
            name=name,
            ok=free >= wanted,
            found=f"{free:.1f} GB free in {there}, {wanted:g} GB wanted",
            fix=f"free some, or set {'K8S_E2E_CACHE_DIR' if 'cache' in name else 'K8S_E2E_STATE_DIR'}",
        )
    memory = machine.available_memory() / _GB
    least = _MEMORY_BUILD_GB if building else _MEMORY_GB
    yield Check(
        name="memory",
        ok=memory >= least,
        found=f"{memory:.1f} GB available, {least:g} GB wanted" + (" (to build Kubernetes)" if building else ""),
        fix="close other programs, or point K8S_E2E_BIN_DIR to ready-made binaries",
    )


def _go(*, needed: bool) -> Iterator[Check]:
    try:
        toolchain = gobuild.Toolchain()
        version = ".".join(map(str, toolchain.version))
        later = "" if toolchain.version >= gobuild.WANTED else ", will fetch a newer one as a module"
        yield Check(name="Go", ok=True, found=f"{version} ({toolchain.go}){later}", required=needed)
    except EnvironmentFailure as error:
        why = "needed where releases cannot be downloaded" if needed else "not needed: everything is built"
        found = f"{error.message} ({why})"
        yield Check(name="Go", ok=not needed, found=found, fix=gobuild.install_command(), required=False)


def _browser() -> Iterator[Check]:
    browser = os.environ.get("K8S_E2E_CHROMIUM") or next(filter(None, map(shutil.which, _BROWSERS)), "")
    yield Check(
        name="browser",
        ok=bool(browser) and Path(browser).exists(),
        found=browser or "none: no screenshots",
        fix=system_packages.command(["chromium"]),
        required=False,
    )


def _image_builders(this: Machine) -> Iterator[Check]:
    """One of Docker and buildah is enough."""
    engine = this.docker.version
    fix, cannot = "start Docker, or install buildah", ""
    if engine:
        try:
            docker.build_command()
        except EnvironmentFailure as error:
            fix, cannot = error.hint, f", but {error.message}"
    builds = bool(engine) and not cannot
    buildah = shutil.which("buildah") or ""
    if not buildah and shutil.which("apt-get"):
        buildah = "will be unpacked from Debian's packages"
    yield Check(
        name="Docker engine",
        ok=builds or bool(buildah),
        found=(f"{engine} answers{cannot}" if engine else f"none answers ({this.docker.problem})")
        + ("; buildah builds the images" if buildah and not builds else ""),
        fix=fix,
    )
    yield Check(
        name="buildah",
        ok=builds or bool(buildah),
        found=buildah or ("none; Docker builds the images" if builds else "none"),
        fix=system_packages.command(["buildah"]),
    )


def _asset(bundle: Bundle, settings: Settings) -> Check:
    named = ", ".join(bundle.provides)
    name = f"asset {bundle.name}"
    if _in_directory(bundle, settings):
        return Check(name=name, ok=True, found=f"in {settings.bin_dir}: {named}")
    record = _cached(bundle, settings)
    if record:
        versions = " ".join(dict.fromkeys(record.versions.values()))
        home = assets.home_of(bundle, settings)
        return Check(name=name, ok=True, found=f"{versions}, cached (from {record.source}) in {home}")
    ways = []
    if bundle.releases and not settings.offline:
        ways.append(f"downloaded from {settings.mirror_url or 'its official release'}")
    if bundle.build and gobuild.find_go():
        ways.append(f"built from source in about {bundle.build.usual_minutes:g} min")
    if bundle.packages and shutil.which("apt-get"):
        ways.append("unpacked from Debian's packages")
    found = f"not there yet; will be {', or '.join(ways)}" if ways else "not there, and no way to get it"
    return Check(
        name=name, ok=bool(ways), found=found, fix=gobuild.install_command() if bundle.build else "use a Debian"
    )


def _cached(bundle: Bundle, settings: Settings) -> assets.Record | None:
    return assets.cached(next(iter(bundle.provides)), settings)


def _in_directory(bundle: Bundle, settings: Settings) -> bool:
    given = settings.bin_dir
    return given is not None and all((given / name).exists() for name in bundle.provides)
