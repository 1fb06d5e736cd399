"""The export gate: traces.json is written when the traces of the run's requests are complete."""

from k8s_e2e.base.progress import Progress
from k8s_e2e.model.evidence import Traces
from k8s_e2e.model.layout import RunDir
from k8s_e2e.model.profile import Profile
from k8s_e2e.model.settings import Settings
from k8s_e2e.platform.http import Requester


def export(run: RunDir, requester: Requester, profile: Profile, settings: Settings, progress: Progress) -> Traces:
    """Wait until the run's traces are complete (at most ``settings.gate_timeout_s``) and write traces.json."""
    raise NotImplementedError
