"""A real Kubernetes of one node in namespaces of its own: no Docker, nothing of the host's network touched."""

import contextlib
import fcntl
import json
import os
import shutil
import socket
import ssl
import sys
import time
from collections.abc import Iterator
from http import HTTPStatus
from http.client import HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any

import msgspec

from k8s_e2e.base import files, process
from k8s_e2e.base.errors import EnvironmentFailure, KitError, UsageError
from k8s_e2e.base.process import tail
from k8s_e2e.base.progress import Progress
from k8s_e2e.base.wait import Pending, wait_for
from k8s_e2e.cluster import assets as asset_store
from k8s_e2e.cluster import machine
from k8s_e2e.cluster.assets import Assets
from k8s_e2e.cluster.local import addons, components, configuration, pki, teardown
from k8s_e2e.cluster.local.layout import API_PORT, INSIDE, LAUNCHER, NODE_IP, ClusterDir, clusters_dir
from k8s_e2e.cluster.local.node_images import NodeImages
from k8s_e2e.cluster.provider import Cluster, LoadedImage
from k8s_e2e.model.settings import Settings

_NAME_LIMIT = 63
_ATTACH_S = 5.0
_MODPROBE_S = 10.0
_MEMORY_FOR_IMAGES = 6e9  # the platform's images and their unpacked layers are 0.6 GB
_NODE_ASSETS = ("containerd", "ctr", "containerd-shim-runc-v2", "runc", "cni", "netfilter", *addons.ASSETS)


class _Record(msgspec.Struct, frozen=True, kw_only=True):
    """``cluster.json``: what another process needs to use the cluster."""

    port: int
    control_plane_only: bool
    versions: dict[str, str]
    kubectl: str
    ctr: str  # empty: there is no node


class LocalProvider:
    """Clusters in ``settings.state_dir``, made of the binaries that `assets` finds."""

    name = "local"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._clusters = clusters_dir(settings.state_dir)

    def up(self, name: str, *, control_plane_only: bool = False, progress: Progress) -> Cluster:
        """Make cluster ``name``, or return it if it is already up; see `Provider.up`."""
        directory = self._directory(name)
        _refuse_wrong_machine()
        with self._locked(name, progress):
            self._sweep(progress)
            record = _read(directory)
            if record and (control_plane_only or not record.control_plane_only):
                with contextlib.suppress(EnvironmentFailure):
                    return self._attach(name)
            self._remove(directory)
            with_node = () if control_plane_only else (*components.NODE_PROGRAMS, *_NODE_ASSETS)
            if not control_plane_only:
                _filter_bridges(progress)
            assets = asset_store.ensure({*components.CONTROL_PLANE, "kubectl", *with_node}, self._settings, progress)
            try:
                self._make(directory, assets, control_plane_only=control_plane_only, progress=progress)
            except BaseException:
                self._keep_logs(directory)
                self._remove(directory)
                raise
            return self._attach(name)

    def attach(self, name: str) -> Cluster:
        """Return a running cluster; see `Provider.attach`."""
        return self._attach(name)

    def load(self, name: str, archive: Path, *, progress: Progress) -> None:
        """Load an archive into the node; see `Provider.load`."""
        if not archive.is_file():
            raise UsageError(f"there is no image archive {archive}")
        progress(f"loading {archive.name} ({archive.stat().st_size / 1e6:.0f} MB)")
        self._images(name).load(archive, timeout_s=self._settings.load_timeout_s)

    def images(self, name: str) -> list[LoadedImage]:
        """List the node's images; see `Provider.images`."""
        return self._images(name).list()

    def down(self, name: str, *, progress: Progress) -> None:
        """Remove the cluster and everything of it; see `Provider.down`."""
        directory = self._directory(name)
        with self._locked(name, progress):
            if directory.root.exists():
                progress(f"removing cluster {name}")
            self._remove(directory)

    def _attach(self, name: str) -> Cluster:
        directory = self._directory(name)
        record = _read(directory)
        if record is None:
            raise EnvironmentFailure(f"there is no local cluster {name!r}", hint="`k8s-e2e up` makes it")
        why = _unanswered(directory, record.port)
        if why:
            raise EnvironmentFailure(
                f"local cluster {name!r} no longer answers: {why}", hint="`k8s-e2e down`, then `k8s-e2e up`"
            )
        logs = {path.stem: path for path in sorted(directory.logs.glob("*.log"))}
        return Cluster(
            name=name,
            provider=self.name,
            kubeconfig=directory.kubeconfig,
            context=name,
            versions=record.versions,
            kubectl=Path(record.kubectl),
            pod_logs=None if record.control_plane_only else directory.pod_logs,
            component_logs=logs,
        )

    def _images(self, name: str) -> NodeImages:
        directory = self._directory(name)
        record = _read(directory)
        running = teardown.processes(directory.root)
        if record is None or len(running) < 2:  # noqa: PLR2004 - the launcher and PID 1
            raise EnvironmentFailure(f"local cluster {name!r} is not up", hint="`k8s-e2e up` makes it")
        if not record.ctr:
            raise EnvironmentFailure(f"local cluster {name!r} is a control plane only: it has no node for images")
        return NodeImages(Path(record.ctr), running[-1])

    def _make(self, directory: ClusterDir, assets: Assets, *, control_plane_only: bool, progress: Progress) -> None:
        for path in (directory.root, directory.config, directory.logs, directory.pod_logs):
            path.mkdir(mode=0o700, parents=True)
        authority = pki.write(directory.pki, server=f"https://{NODE_IP}:{API_PORT}")
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            admin = pki.issue(authority, *pki.USERS["admin"])
            server = f"https://127.0.0.1:{port}"
            kubeconfig = pki.kubeconfig(authority, admin, server=server, name=directory.root.name)
            files.write(directory.kubeconfig, kubeconfig, mode=0o600)
            files.write_json(
                directory.boot, self._plan(directory, assets, control_plane_only=control_plane_only), mode=0o600
            )
            progress(f"starting cluster {directory.root.name}")
            launcher = _Launcher(directory, listener)
        try:
            launcher.wait_ready(self._settings.up_timeout_s, progress)
            record = _Record(
                port=port,
                control_plane_only=control_plane_only,
                versions=_versions(assets),
                kubectl=str(assets.path("kubectl")),
                ctr="" if control_plane_only else str(assets.path("ctr")),
            )
            files.write_json(directory.record, record, mode=0o600)
            launcher.let_go()
        finally:
            launcher.close()

    def _plan(self, directory: ClusterDir, assets: Assets, *, control_plane_only: bool) -> dict[str, Any]:
        names = components.CONTROL_PLANE + (() if control_plane_only else components.NODE_PROGRAMS)
        lines = components.command_lines()
        needs = {*(str(path.resolve()) for path in assets.paths.values()), *_python_paths()}
        plan: dict[str, Any] = {
            "commands": {name: [str(assets.path(name)), *lines[name]] for name in names},
            "environment": components.environment(assets.paths),
            "component_timeout_s": self._settings.component_timeout_s,
            "images_in_memory": not control_plane_only and machine.available_memory() > _MEMORY_FOR_IMAGES,
            "addons": [],
            "images": [],
        }
        if not control_plane_only:
            configuration.write(
                directory.config,
                cgroup=directory.cgroup,
                runc=assets.path("runc"),
                cni_plugins=assets.path("cni"),
            )
            archive = addons.image_archive(assets, self._settings.cache_dir)
            images = directory.config / "images.tar"
            os.link(archive, images) if _same_device(archive, directory.config) else shutil.copy(archive, images)
            plan["images"] = [str(INSIDE / "config" / "images.tar")]
            plan["addons"] = addons.objects()
        plan["needs"] = sorted({str(Path(each) if Path(each).is_dir() else Path(each).parent) for each in needs})
        return plan

    def _sweep(self, progress: Progress) -> None:
        """Remove what clusters left that ended without `down`: their creator was killed, the machine restarted."""
        for root in sorted(self._clusters.iterdir()):
            if root.name.startswith(".") and ".trash-" in root.name:
                shutil.rmtree(root, ignore_errors=True)
            if root.name.startswith(".") or (_read(ClusterDir(root)) and teardown.processes(root)):
                continue
            with contextlib.suppress(BlockingIOError), self._locked(root.name, progress, block=False):
                if not (_read(ClusterDir(root)) and teardown.processes(root)):
                    progress(f"removing what is left of cluster {root.name}")
                    self._remove(ClusterDir(root))

    def _remove(self, directory: ClusterDir) -> None:
        if self._clusters.exists():
            teardown.remove(directory.root, timeout_s=self._settings.down_timeout_s)

    def _keep_logs(self, directory: ClusterDir) -> None:
        """Put the logs of a cluster that did not come up where they can be read."""
        kept = self._settings.state_dir.absolute() / "failed" / directory.root.name
        shutil.rmtree(kept, ignore_errors=True)
        with contextlib.suppress(OSError):
            kept.parent.mkdir(parents=True, exist_ok=True)
            directory.logs.rename(kept)

    def _directory(self, name: str) -> ClusterDir:
        if not name or len(name) > _NAME_LIMIT or not all(char.isalnum() or char == "-" for char in name):
            raise UsageError(f"{name!r} is no name for a cluster", hint="letters, digits and -, at most 63")
        return ClusterDir(self._clusters / name)

    @contextlib.contextmanager
    def _locked(self, name: str, progress: Progress, *, block: bool = True) -> Iterator[None]:
        """Let one `up` or `down` of a cluster at a time go on; the lock ends with the process that holds it."""
        self._clusters.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._clusters / f".{name}.lock"
        while True:
            with path.open("w") as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    if not block:
                        raise
                    progress(f"waiting for another process that is at work on cluster {name}")
                    fcntl.flock(lock, fcntl.LOCK_EX)
                if not path.exists() or not os.path.samestat(path.stat(), os.fstat(lock.fileno())):
                    continue  # whoever had it removed it; this lock is on a file that is no more
                try:
                    yield
                finally:
                    path.unlink()
                return


class _Launcher:
    """The launcher process of one cluster, until it is let go."""

    def __init__(self, directory: ClusterDir, listener: socket.socket) -> None:
        self._directory = directory
        self._log = directory.logs / "launcher.log"
        reads, self._tell = os.pipe()
        self._hear, writes = os.pipe()
        os.set_blocking(self._hear, False)
        log = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            self._pid = os.posix_spawn(
                sys.executable,
                [sys.executable, "-m", LAUNCHER, str(directory.root), "3"],
                {**os.environ, "PYTHONPATH": os.pathsep.join(_source_path())},
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, reads, 0),
                    (os.POSIX_SPAWN_DUP2, writes, 1),
                    (os.POSIX_SPAWN_DUP2, log, 2),
                    (os.POSIX_SPAWN_DUP2, listener.fileno(), 3),
                ],
                setsid=True,  # survives the end of our terminal, process group and process
            )
        finally:
            for handle in (reads, writes, log):
                os.close(handle)
        self._text = b""

    def wait_ready(self, timeout_s: float, progress: Progress) -> None:
        """Pass on what PID 1 says until the cluster is ready.

        Raises:
            EnvironmentFailure: it failed, and why.
        """
        started = time.monotonic()
        last = "nothing"

        def heard() -> bool | Pending:
            nonlocal last
            for words in self._heard():
                if "failed" in words:
                    raise EnvironmentFailure(f"cluster {self._directory.root.name} did not start: {words['failed']}")
                if "ready" in words:
                    return True
                last = words["progress"]
                progress(f"{last} ({time.monotonic() - started:.1f} s)")
            return Pending(f"{last} was there")

        try:
            wait_for("the cluster", heard, timeout_s=timeout_s, interval_s=0.02)
        except KitError as error:
            raise EnvironmentFailure(error.message, hint=f"logs: {self._kept}") from error

    def let_go(self) -> None:
        """Tell the launcher to live on without us."""
        os.write(self._tell, b"1")

    def close(self) -> None:
        """Close our ends; a launcher that was not let go ends the cluster."""
        os.close(self._tell)
        os.close(self._hear)

    def _heard(self) -> Iterator[dict[str, Any]]:
        ended = False
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self._hear, 65536):
                self._text += data
            ended = True
        *lines, self._text = self._text.split(b"\n")
        for line in lines:
            yield json.loads(line)
        if ended:
            words = tail(self._log.read_text("utf-8", "replace"))
            yield {"failed": f"its first process ended: {words or 'without a word'}"}

    @property
    def _kept(self) -> Path:
        return self._directory.root.parents[1] / "failed" / self._directory.root.name


def _read(directory: ClusterDir) -> _Record | None:
    try:
        return msgspec.json.decode(directory.record.read_bytes(), type=_Record)
    except (OSError, msgspec.DecodeError):
        return None


def _unanswered(directory: ClusterDir, port: int) -> str:
    """Say why the API server does not answer; empty when it does."""
    if not teardown.processes(directory.root):
        return "none of its processes is left"
    context = _client_tls(directory)
    connection = HTTPSConnection("127.0.0.1", port, timeout=_ATTACH_S, context=context)
    try:
        connection.request("GET", "/readyz")
        status = connection.getresponse().status
    except (OSError, HTTPException) as error:
        return f"{type(error).__name__}: {error}"
    finally:
        connection.close()
    return "" if status == HTTPStatus.OK else f"/readyz says {status}"


def _client_tls(directory: ClusterDir) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(directory.pki / "ca.crt"))
    context.load_cert_chain(directory.pki / "admin.crt", directory.pki / "admin.key")
    return context


def _versions(assets: Assets) -> dict[str, str]:
    named = {"kubernetes": "kube-apiserver", "etcd": "etcd", "coredns": "coredns", "containerd": "containerd"}
    named |= {"runc": "runc", "cni-plugins": "cni"}
    return {name: assets.versions[asset] for name, asset in named.items() if asset in assets.versions}


def _source_path() -> list[str]:
    return [str(Path(__file__).resolve().parents[3])]


def _python_paths() -> list[str]:
    return [sys.prefix, sys.base_prefix, *_source_path()]


def _same_device(one: Path, other: Path) -> bool:
    return one.stat().st_dev == other.stat().st_dev


def _filter_bridges(progress: Progress) -> None:
    """Load the module without which a Service does not answer pods of its own node; all others are loaded on use."""
    if not Path("/proc/sys/net/bridge/bridge-nf-call-iptables").exists():
        progress("loading the kernel module br_netfilter")
        process.run(["modprobe", "br_netfilter"], timeout_s=_MODPROBE_S)


def _refuse_wrong_machine() -> None:
    if sys.platform != "linux":
        raise EnvironmentFailure(f"a local cluster needs Linux, not {sys.platform}", hint="use --provider kind")
    if os.geteuid() != 0:
        raise EnvironmentFailure("a local cluster needs root", hint="run it with sudo, or use --provider kind")
