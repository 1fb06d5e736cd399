"""A real Kubernetes of one node in namespaces of its own: no Docker, nothing of the host's network touched."""

import contextlib
import os
import shutil
import socket
import ssl
import sys
from contextlib import AbstractContextManager
from http import HTTPStatus
from http.client import HTTPException, HTTPSConnection
from pathlib import Path

import msgspec

from k8s_e2e.base import files, process
from k8s_e2e.base.errors import EnvironmentFailure, UsageError, WaitTimeout
from k8s_e2e.base.progress import Progress
from k8s_e2e.base.wait import Pending, wait_for
from k8s_e2e.cluster import assets as asset_store
from k8s_e2e.cluster import machine, names, system_packages
from k8s_e2e.cluster.assets import Assets
from k8s_e2e.cluster.local import addons, boot_plan, cluster_lock, components, teardown
from k8s_e2e.cluster.local.layout import ClusterDir, clusters_dir
from k8s_e2e.cluster.local.node_images import NodeImages
from k8s_e2e.cluster.local.start import Start
from k8s_e2e.cluster.provider import Cluster, LoadedImage
from k8s_e2e.model.settings import Settings

_ATTACH_S = 20.0  # an API server that is started again is back by then
_REQUEST_S = 5.0
_MODPROBE_S = 10.0
_SYSTEM_PROGRAMS = {"ip": "iproute2", "mount": "mount"}  # called by the launcher and kubelet; their packages
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
    loads = True
    pulls = False

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._clusters = clusters_dir(settings.state_dir)

    def up(self, name: str, *, control_plane_only: bool = False, progress: Progress) -> Cluster:
        """Make cluster ``name``, or return it if it is already up; see `Provider.up`."""
        directory = self._directory(name)
        _refuse_wrong_machine()
        system_packages.ensure(_SYSTEM_PROGRAMS, self._settings, progress)
        with self._lock(name, progress):
            self._sweep(progress)
            record = _read(directory)
            if record and (control_plane_only or not record.control_plane_only):
                with contextlib.suppress(EnvironmentFailure):
                    return self.attach(name)
            self._remove(directory)
            with_node = () if control_plane_only else (*components.NODE_PROGRAMS, *_NODE_ASSETS)
            if not control_plane_only:
                self._filter_bridges(progress)
            assets = asset_store.ensure({*components.CONTROL_PLANE, "kubectl", *with_node}, self._settings, progress)
            try:
                self._make(directory, assets, control_plane_only=control_plane_only, progress=progress)
            except BaseException as error:
                self._keep_logs(directory)
                self._remove(directory)
                if isinstance(error, OSError):
                    message = f"cannot make cluster {name} in {directory.root}: {error.strerror or error}"
                    raise EnvironmentFailure(message, hint="K8S_E2E_STATE_DIR names another place") from error
                raise
            shutil.rmtree(directory.failed_logs, ignore_errors=True)
            return self.attach(name)

    def attach(self, name: str) -> Cluster:
        """Return a running cluster; see `Provider.attach`."""
        directory = self._directory(name)
        record = _read(directory)
        if record is None:
            raise EnvironmentFailure(
                f"there is no local cluster {name!r}", hint=f"`k8s-e2e up {name} --provider local` makes it"
            )
        try:
            wait_for(f"local cluster {name!r}", lambda: _answers(directory, record.port), timeout_s=_ATTACH_S)
        except WaitTimeout as error:
            raise EnvironmentFailure(error.message, hint=_anew(name)) from error
        return Cluster(
            name=name,
            provider=self.name,
            kubeconfig=directory.kubeconfig,
            context=name,
            versions=record.versions,
            kubectl=Path(record.kubectl),
            pod_logs=None if record.control_plane_only else directory.pod_logs,
        )

    def load(self, name: str, archive: Path, *, progress: Progress) -> None:
        """Load an archive into the node; see `Provider.load`."""
        if not archive.is_file():
            raise UsageError(f"there is no image archive {archive}")
        progress(f"loading {archive.name} ({archive.stat().st_size / 1e6:.0f} MB)")
        self._images(name).load(archive, timeout_s=self._settings.load_timeout_s)

    def images(self, name: str) -> list[LoadedImage]:
        """List the node's images; see `Provider.images`."""
        return self._images(name).list()

    def component_logs(
        self,
        name: str,
        scratch: Path,  # noqa: ARG002 - they are files here
        *,
        timeout_s: float,  # noqa: ARG002 - they are files here
    ) -> dict[str, Path]:
        """Return the log files of the cluster's processes; see `Provider.component_logs`."""
        return {path.stem: path for path in sorted(self._directory(name).logs.glob("*.log"))}

    def down(self, name: str, *, progress: Progress) -> None:
        """Remove the cluster and everything of it; see `Provider.down`."""
        directory = self._directory(name)
        with self._lock(name, progress):
            if directory.root.exists():
                progress(f"removing cluster {name}")
            else:
                progress(f"there is no cluster {name}")
            self._remove(directory)

    def _images(self, name: str) -> NodeImages:
        directory = self._directory(name)
        record = _read(directory)
        running = teardown.processes(directory.root)
        if record is None or len(running) < 2:  # noqa: PLR2004 - the launcher and PID 1
            raise EnvironmentFailure(
                f"local cluster {name!r} is not up", hint=f"`k8s-e2e up {name} --provider local` makes it"
            )
        if not record.ctr:
            raise EnvironmentFailure(f"local cluster {name!r} is a control plane only: it has no node for images")
        return NodeImages(Path(record.ctr), running[-1])

    def _make(self, directory: ClusterDir, assets: Assets, *, control_plane_only: bool, progress: Progress) -> None:
        """Write the cluster's directory, start its processes and wait until it is ready."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            boot_plan.prepare(directory, assets, self._settings, port=port, control_plane_only=control_plane_only)
            progress(f"starting cluster {directory.root.name}")
            start = Start(directory, listener)
        try:
            start.wait_ready(self._settings.up_timeout_s, progress)
            record = _Record(
                port=port,
                control_plane_only=control_plane_only,
                versions=_versions(assets),
                kubectl=str(assets.path("kubectl")),
                ctr="" if control_plane_only else str(assets.path("ctr")),
            )
            files.write_json(directory.record, record, mode=0o600)
            start.let_go()
        finally:
            start.close()

    def _filter_bridges(self, progress: Progress) -> None:
        """Load the module without which a Service does not answer pods of its own node; others are loaded on use.

        It is on in every network namespace from the start: the host's bridges are left as they were without it.
        """
        switches = Path("/proc/sys/net/bridge")
        if not switches.exists():
            system_packages.ensure({"modprobe": "kmod"}, self._settings, progress)
            progress("loading the kernel module br_netfilter")
            process.run(["modprobe", "br_netfilter"], timeout_s=_MODPROBE_S)
            for switch in switches.glob("bridge-nf-call-*"):
                switch.write_text("0")

    def _sweep(self, progress: Progress) -> None:
        """Remove what clusters left that ended without `down`: their creator was killed, the machine restarted."""
        for root in sorted(self._clusters.iterdir()):
            if root.name.startswith(".") and ".trash-" in root.name:
                shutil.rmtree(root, ignore_errors=True)
            if root.name.startswith(".") or (_read(ClusterDir(root)) and teardown.processes(root)):
                continue
            with cluster_lock.locked_now(self._clusters, root.name) as free:
                if free and not (_read(ClusterDir(root)) and teardown.processes(root)):
                    progress(f"removing what is left of cluster {root.name}")
                    try:
                        self._remove(ClusterDir(root))
                    except (EnvironmentFailure, OSError) as error:  # no reason why another cluster could not be made
                        progress(f"cannot remove what is left of cluster {root.name}: {error}")

    def _remove(self, directory: ClusterDir) -> None:
        if self._clusters.exists():
            teardown.remove(directory.root, timeout_s=self._settings.down_timeout_s)

    def _keep_logs(self, directory: ClusterDir) -> None:
        """Put the logs of a cluster that did not come up where they can be read."""
        kept = directory.failed_logs
        shutil.rmtree(kept, ignore_errors=True)
        with contextlib.suppress(OSError):
            kept.parent.mkdir(parents=True, exist_ok=True)
            directory.logs.rename(kept)

    def _lock(self, name: str, progress: Progress) -> AbstractContextManager[None]:
        patience_s = self._settings.up_timeout_s + self._settings.down_timeout_s
        return cluster_lock.locked(self._clusters, name, timeout_s=patience_s, progress=progress)

    def _directory(self, name: str) -> ClusterDir:
        return ClusterDir(self._clusters / names.check(name))


def _read(directory: ClusterDir) -> _Record | None:
    try:
        return msgspec.json.decode(directory.record.read_bytes(), type=_Record)
    except (OSError, msgspec.DecodeError):
        return None


def _answers(directory: ClusterDir, port: int) -> bool | Pending:
    """Probe the API server through the host's loopback.

    Raises:
        EnvironmentFailure: there is nobody left to wait for.
    """
    if not teardown.processes(directory.root):
        name = directory.root.name
        raise EnvironmentFailure(f"local cluster {name!r} has died: none of its processes is left", hint=_anew(name))
    context = _client_tls(directory)
    connection = HTTPSConnection("127.0.0.1", port, timeout=_REQUEST_S, context=context)
    try:
        connection.request("GET", "/readyz")
        status = connection.getresponse().status
    except (OSError, HTTPException) as error:
        return Pending(f"{type(error).__name__}: {error}")
    finally:
        connection.close()
    return True if status == HTTPStatus.OK else Pending(f"/readyz says {status}")


def _anew(name: str) -> str:
    return f"`k8s-e2e down {name} --provider local`, then `k8s-e2e up {name} --provider local`"


def _client_tls(directory: ClusterDir) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(directory.pki / "ca.crt"))
    context.load_cert_chain(directory.pki / "admin.crt", directory.pki / "admin.key")
    return context


def _versions(assets: Assets) -> dict[str, str]:
    named = {"kubernetes": "kube-apiserver", "etcd": "etcd", "coredns": "coredns", "containerd": "containerd"}
    named |= {"runc": "runc", "cni-plugins": "cni"}
    return {name: assets.versions[asset] for name, asset in named.items() if asset in assets.versions}


def _refuse_wrong_machine() -> None:
    if sys.platform == "linux" and os.geteuid() == 0:
        return
    lacks = "root" if sys.platform == "linux" else f"Linux, not {sys.platform}"
    raise EnvironmentFailure(f"a local cluster needs {lacks}", hint=machine.instead_of_local(machine.here()))
