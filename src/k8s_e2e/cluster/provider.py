"""What every cluster provider offers; the kubeconfig is the contract with everything above."""

from pathlib import Path
from typing import Protocol

import msgspec

from k8s_e2e.base.progress import Progress

EXISTING = "existing"
NAMES = ("auto", "local", "kind", EXISTING)


class Cluster(msgspec.Struct, frozen=True, kw_only=True):
    """A cluster that answers.

    ``kubeconfig`` never lives in a run directory: it is the user's own or, 0600, in the state directory.
    """

    name: str
    provider: str  # local, kind, existing
    kubeconfig: Path
    context: str = ""
    versions: dict[str, str] = {}  # component -> version
    kubectl: Path  # a kubectl that fits the cluster
    pod_logs: Path | None = None  # the node's /var/log/pods as a path this process can read, where there is one
    server: str = ""  # the API server's URL, where the name alone does not say which cluster is meant
    uid: str = ""  # of namespace kube-system, where it may be read: no other cluster has it

    @property
    def shared(self) -> bool:
        """Whether it is somebody else's: only what a run made in it goes, and only what is allowed is done."""
        return self.provider == EXISTING


class LoadedImage(msgspec.Struct, frozen=True, kw_only=True):
    """An image in a cluster's node: the full reference, its config digest (``sha256:...``), its unpacked bytes."""

    reference: str
    digest: str
    bytes: int = 0


class Provider(Protocol):
    """Makes and removes clusters of one kind.

    Every method is idempotent and may be called from another process than the one that made the cluster.
    """

    name: str
    loads: bool
    """Whether images can be put into its nodes; where not, they are pulled from a registry by prefix."""
    pulls: bool
    """Whether its nodes pull what the manifests name of third parties; where not, images made here take their place."""

    def up(self, name: str, *, control_plane_only: bool = False, progress: Progress) -> Cluster:
        """Make cluster ``name``, or return it if it is already up.

        Raises:
            EnvironmentFailure: the machine cannot run it, or a component did not become healthy (its last lines).
        """
        ...

    def attach(self, name: str) -> Cluster:
        """Return a running cluster.

        Raises:
            EnvironmentFailure: there is none of that name, or it no longer answers.
        """
        ...

    def load(self, name: str, archive: Path, *, progress: Progress) -> None:
        """Load one OCI or docker archive, which may hold many images, into every node.

        Raises:
            EnvironmentFailure: the node refused it.
        """
        ...

    def images(self, name: str) -> list[LoadedImage]:
        """List the images that the nodes have."""
        ...

    def component_logs(self, name: str, scratch: Path, *, timeout_s: float) -> dict[str, Path]:
        """Return the log file of each component of the cluster, by name; what has to be fetched goes to ``scratch``.

        Fetching ends after ``timeout_s``.

        Raises:
            EnvironmentFailure: they cannot be had.
        """
        ...

    def down(self, name: str, *, progress: Progress) -> None:
        """Remove the cluster and everything of it; no cluster of that name is fine, too.

        Raises:
            EnvironmentFailure: something is left, and what.
        """
        ...
