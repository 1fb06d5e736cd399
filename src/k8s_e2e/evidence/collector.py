"""The final state of a namespace, collected into a run directory."""

from k8s_e2e.base.progress import Progress
from k8s_e2e.cluster.provider import Cluster
from k8s_e2e.model.evidence import Part
from k8s_e2e.model.layout import RunDir
from k8s_e2e.model.profile import Profile
from k8s_e2e.model.settings import Settings
from k8s_e2e.platform.http import Requester


def collect(
    run: RunDir,
    cluster: Cluster,
    namespace: str,
    profile: Profile,
    requester: Requester | None,
    settings: Settings,
    progress: Progress,
) -> list[Part]:
    """Write every observed file under ``k8s/`` and the component logs; the outcome of each part comes back.

    Never raises for what a cluster does: a part that fails says so in its `Part`. The recorder is drained first. The
    stage adds the parts of others (traces) and hands all to `manifest.seal`.
    """
    raise NotImplementedError
