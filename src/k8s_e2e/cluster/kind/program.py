"""The program kind: finding one that fits, and the command lines that the kit gives it."""

import re
import shutil
import tempfile
from pathlib import Path

from k8s_e2e.base import process
from k8s_e2e.base.progress import Progress
from k8s_e2e.cluster import assets
from k8s_e2e.cluster.bundles import KIND
from k8s_e2e.model.settings import Settings

_ASK_S = 30.0  # what only asks Docker
_VERSION = re.compile(r"kind v(\d+)\.(\d+)\.(\d+)")
_LOAD_BALANCER = "-external-load-balancer"  # a node by kind's count, but no Kubernetes runs in it


class Kind:
    """One kind program. Its user's kubeconfig is never written: every command that would is told another file."""

    def __init__(self, path: Path, version: str) -> None:
        self.path, self.version = path, version

    @classmethod
    def find(cls, settings: Settings, progress: Progress) -> "Kind":
        """Return the one on PATH if it is new enough, else the kit's own.

        Raises:
            EnvironmentFailure: none can be had.
        """
        found = shutil.which("kind")
        version = version_of(Path(found)) if found else ""
        if found and fits(version):
            return cls(Path(found), version)
        if found:
            progress(f"{found} is kind {version or 'of no known version'}, {KIND} is wanted: the kit's own is used")
        own = assets.ensure(["kind"], settings, progress)
        return cls(own.path("kind"), own.versions["kind"])

    def clusters(self) -> list[str]:
        """Return the names of the clusters that there are, stopped ones included."""
        return self._ask("get", "clusters").split()

    def nodes(self, name: str) -> list[str]:
        """Return the names of the containers that are nodes of Kubernetes."""
        return [node for node in self._ask("get", "nodes", "--name", name).split() if not node.endswith(_LOAD_BALANCER)]

    def kubeconfig(self, name: str) -> str:
        """Return the administrator's kubeconfig of a cluster, as YAML."""
        return self._ask("get", "kubeconfig", "--name", name)

    def create(self, name: str, image: str, kubeconfig: Path, *, timeout_s: float, log: Path) -> None:
        """Make a cluster and wait until its node is ready; one that fails is left for its logs.

        Raises:
            ProgramFailed: it could not be made in time; what kind printed.
        """
        words: list[str | Path] = ["create", "cluster", "--name", name, "--image", image, "--retain"]
        # kind only warns when the node is not ready after --wait: the deadline of the whole is what ends it.
        words += ["--kubeconfig", kubeconfig, "--wait", f"{timeout_s + 1:.0f}s"]
        try:
            self._run(*words, timeout_s=timeout_s, log=log)
        except process.ProgramFailed as error:
            late = error.__cause__ is not None
            said = process.tail(log.read_text("utf-8", "replace")) if late and log.exists() else ""
            raise process.ProgramFailed(f"{error.message}: {said}" if said else error.message) from error

    def load(self, name: str, archive: Path, *, timeout_s: float) -> None:
        """Load every image of an archive into every node."""
        self._run("load", "image-archive", "--name", name, archive, timeout_s=timeout_s)

    def export_logs(self, name: str, directory: Path, *, timeout_s: float) -> str:
        """Write the nodes' logs below ``directory``; return what kind said if it could not get all of them."""
        try:
            self._run("export", "logs", "--name", name, directory, timeout_s=timeout_s)
        except process.ProgramFailed as error:
            return error.message
        return ""

    def delete(self, name: str, *, timeout_s: float) -> None:
        """Remove a cluster; none of that name is fine."""
        with tempfile.TemporaryDirectory(prefix="k8s-e2e-kind-") as scratch:
            nowhere = Path(scratch, "kubeconfig")  # what the cluster is called in the user's own is the user's affair
            self._run("delete", "cluster", "--name", name, "--kubeconfig", nowhere, timeout_s=timeout_s)

    def _ask(self, *words: str) -> str:
        return self._run(*words, timeout_s=_ASK_S)

    def _run(self, *words: str | Path, timeout_s: float, log: Path | None = None) -> str:
        # Only Docker's nodes are known here, whatever else kind would find or be told.
        environment = {"KIND_EXPERIMENTAL_PROVIDER": ""}
        return process.run([self.path, *words], timeout_s=timeout_s, env=environment, log=log).stdout


def fits(version: str) -> bool:
    """Say whether a kind of this version does: the pinned one or a later one makes and reads the pinned node image."""
    return bool(version) and _numbers(version) >= _numbers(KIND)


def version_of(program: Path) -> str:
    """Return what a kind program says it is, such as ``0.32.0``; nothing where it says something else."""
    try:
        said = process.run([program, "version"], timeout_s=_ASK_S).stdout
    except process.ProgramFailed:
        return ""
    match = _VERSION.match(said)
    return ".".join(match.groups()) if match else ""


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))
