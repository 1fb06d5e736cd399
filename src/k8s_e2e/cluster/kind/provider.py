"""Clusters by kind: made, found, filled with images and removed through its own command lines."""

import contextlib
import json
import shutil
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from k8s_e2e.base import files, journal, process
from k8s_e2e.base.errors import EnvironmentFailure, UsageError, WaitTimeout
from k8s_e2e.base.lock import locked
from k8s_e2e.base.progress import Progress, silent, ticking
from k8s_e2e.base.wait import Pending, wait_for
from k8s_e2e.cluster import kubectl, machine, names
from k8s_e2e.cluster.bundles import KIND_NODE_IMAGE
from k8s_e2e.cluster.kind import exported_logs, node_images
from k8s_e2e.cluster.kind.program import Kind
from k8s_e2e.cluster.provider import Cluster, LoadedImage
from k8s_e2e.model.settings import Settings

_ATTACH_S = 20.0
_REQUEST_S = 5.0
_KUBECTL_S = 15.0
_ENGINE_S = 10.0


class KindProvider:
    """The kind clusters of the Docker engine that `docker` talks to; kubeconfigs are in ``settings.state_dir``."""

    name = "kind"
    loads = True
    pulls = True

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._clusters = settings.state_dir.absolute() / "kind"
        self._failed = settings.state_dir.absolute() / "failed"

    def up(self, name: str, *, control_plane_only: bool = False, progress: Progress) -> Cluster:  # noqa: ARG002
        """Make cluster ``name``, or use the one of that name; it always has a node. See `Provider.up`."""
        names.check_kind(name)
        kind = self._kind(progress)
        with self._lock(name, progress):
            if name in kind.clusters():
                progress(f"kind cluster {name} exists: it is used as it is")
            else:
                self._create(kind, name, progress)
            return self._attached(kind, name, progress)

    def attach(self, name: str) -> Cluster:
        """Return a running cluster, whoever made it; see `Provider.attach`."""
        names.check_kind(name)
        kind = self._kind(silent)
        known = kind.clusters()
        if name not in known:
            hint = f"`k8s-e2e up {name} --provider kind` makes it; there are: {', '.join(known) or 'none'}"
            raise EnvironmentFailure(f"there is no kind cluster {name!r}", hint=hint)
        return self._attached(kind, name, journal.progress)

    def load(self, name: str, archive: Path, *, progress: Progress) -> None:
        """Load an archive into every node; see `Provider.load`."""
        names.check_kind(name)
        if not archive.is_file():
            raise UsageError(f"there is no image archive {archive}")
        progress(f"loading {archive.name} ({archive.stat().st_size / 1e6:.0f} MB) into kind cluster {name}")
        self._kind(silent).load(name, archive, timeout_s=self._settings.load_timeout_s)

    def images(self, name: str) -> list[LoadedImage]:
        """List the images that all nodes have; see `Provider.images`."""
        names.check_kind(name)
        nodes = self._kind(silent).nodes(name)
        if not nodes:
            raise EnvironmentFailure(f"kind cluster {name!r} has no nodes", hint=_makes(name))
        return node_images.images_of(nodes)

    def component_logs(self, name: str, scratch: Path, *, timeout_s: float) -> dict[str, Path]:
        """Export the nodes' logs; what kind could not get is told in a component ``kind-export``."""
        names.check_kind(name)
        exported = scratch / "exported"
        problem = self._kind(silent).export_logs(name, exported, timeout_s=timeout_s)
        found = exported_logs.components(exported)
        if problem and not found:
            raise EnvironmentFailure(f"kind exported no logs of cluster {name!r}: {problem}")
        if problem:
            found["kind-export"] = scratch / "kind-export.log"
            files.write(found["kind-export"], f"{problem}\n")
        return found

    def down(self, name: str, *, progress: Progress) -> None:
        """Remove the cluster and what the kit keeps of it; see `Provider.down`."""
        names.check_kind(name)
        kind = self._kind(progress)
        with self._lock(name, progress):
            there = name in kind.clusters()
            progress(f"removing kind cluster {name}" if there else f"there is no kind cluster {name}")
            kind.delete(name, timeout_s=self._settings.down_timeout_s)
            shutil.rmtree(self._home(name), ignore_errors=True)

    def _create(self, kind: Kind, name: str, progress: Progress) -> None:
        image = self._settings.kind_node_image or KIND_NODE_IMAGE
        self._pull(image, progress)
        home, failed = self._home(name), self._failed / name
        for directory in (home, failed):
            shutil.rmtree(directory, ignore_errors=True)
        _private(home)
        log = failed / "kind-create.log"
        _private(failed)
        try:
            with ticking(progress, f"creating kind cluster {name}", note="usually 0.5-1 min"):
                kind.create(name, image, home / "kubeconfig", timeout_s=self._settings.up_timeout_s, log=log)
        except BaseException as error:
            if isinstance(error, EnvironmentFailure):
                kind.export_logs(name, failed / "nodes", timeout_s=self._settings.down_timeout_s)
            with contextlib.suppress(EnvironmentFailure):
                kind.delete(name, timeout_s=self._settings.down_timeout_s)
            shutil.rmtree(home, ignore_errors=True)
            if isinstance(error, EnvironmentFailure):
                message = f"kind cluster {name} could not be made: {error.message}"
                raise EnvironmentFailure(message, hint=f"its logs are in {failed}") from error
            raise
        shutil.rmtree(failed, ignore_errors=True)

    def _pull(self, image: str, progress: Progress) -> None:
        """Pull the node image first: it takes what the network takes, and has its own deadline."""
        asked = ["docker", "image", "inspect", "--format", "{{.Id}}", image]
        if process.run(asked, timeout_s=_ENGINE_S, check=False).code:
            with ticking(progress, f"pulling {image.partition('@')[0]}", note="some 400 MB"):
                process.run(["docker", "pull", "--quiet", image], timeout_s=self._settings.download_timeout_s)

    def _attached(self, kind: Kind, name: str, progress: Progress) -> Cluster:
        home = self._home(name)
        _private(self._clusters)
        _private(home)
        kubeconfig = home / "kubeconfig"
        files.write(kubeconfig, kind.kubeconfig(name), mode=0o600)
        program = kubectl.on_path() or kubectl.own(self._settings, progress)
        versions = _answer(program, kubeconfig, name)
        server = versions["serverVersion"]["gitVersion"]
        if not kubectl.fits(versions["clientVersion"]["gitVersion"], server):
            program = kubectl.own(self._settings, progress)
        return Cluster(
            name=name,
            provider=self.name,
            kubeconfig=kubeconfig,
            context=f"kind-{name}",
            versions={"kubernetes": server.removeprefix("v"), "kind": kind.version},
            kubectl=program,
        )

    def _kind(self, progress: Progress) -> Kind:
        """Return the program, once a Docker engine has answered: nothing works without, and this says it best."""
        this = machine.here()
        if not this.docker.version:
            message = f"a kind cluster needs a Docker engine, and none answers: {this.docker.problem}"
            raise EnvironmentFailure(message, hint=machine.way_forward(this))
        return Kind.find(self._settings, progress)

    def _home(self, name: str) -> Path:
        return self._clusters / name

    def _lock(self, name: str, progress: Progress) -> AbstractContextManager[None]:
        _private(self._clusters)
        wait_s = self._settings.download_timeout_s + self._settings.up_timeout_s
        return locked(
            self._clusters / f".{name}.lock", what=f"kind cluster {name}", timeout_s=wait_s, progress=progress
        )


def _answer(program: Path, kubeconfig: Path, name: str) -> dict[str, Any]:
    """Return the versions of kubectl and API server once that answers.

    Raises:
        EnvironmentFailure: it does not; what kubectl said last.
    """
    asked: list[str | Path] = [program, "--kubeconfig", kubeconfig, "version", "-o", "json"]

    def ask() -> dict[str, Any] | Pending:
        done = process.run([*asked, f"--request-timeout={_REQUEST_S:g}s"], timeout_s=_KUBECTL_S, check=False)
        try:
            said: dict[str, Any] = json.loads(done.stdout)
        except ValueError:
            said = {}
        return said if "serverVersion" in said else Pending(process.tail(done.stderr, 1) or f"exit code {done.code}")

    try:
        return wait_for(f"the API server of kind cluster {name!r}", ask, timeout_s=_ATTACH_S, interval_s=0.5)
    except WaitTimeout as error:
        hint = f"`k8s-e2e down {name} --provider kind`, then `k8s-e2e up {name} --provider kind`"
        raise EnvironmentFailure(error.message, hint=hint) from error


def _private(directory: Path) -> None:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    directory.chmod(0o700)


def _makes(name: str) -> str:
    return f"`k8s-e2e up {name} --provider kind` makes it"
