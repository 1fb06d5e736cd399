"""The flight recorder's control side: start it beside the stages, let it catch up, end it."""

from k8s_e2e.cluster.provider import Cluster
from k8s_e2e.model.layout import RunDir
from k8s_e2e.model.profile import Profile
from k8s_e2e.model.settings import Settings


def start(run: RunDir, cluster: Cluster, namespace: str, profile: Profile, settings: Settings) -> int:
    """Start recording ``namespace`` into ``run`` and return the recorder's pid once its first lists are done.

    A run that is being recorded already keeps its recorder. After `drain` it takes up where it left off.
    """
    raise NotImplementedError


def drain(run: RunDir, settings: Settings, *, timeout_s: float = 10.0) -> None:
    """Let the recorder catch up with the cluster, write everything out, and end. No recorder: nothing happens."""
    raise NotImplementedError


def stop(run: RunDir, settings: Settings, *, timeout_s: float = 5.0) -> None:
    """End the recorder at once, what it has seen written out. No recorder: nothing happens."""
    raise NotImplementedError
