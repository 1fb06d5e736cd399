"""What a step can reach, what it leaves, and what it knows from the steps before it."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from k8s_e2e.base.progress import Progress
from k8s_e2e.base.redaction import Redactor
from k8s_e2e.cluster.provider import Cluster
from k8s_e2e.evidence.secrets import Cleaner
from k8s_e2e.model.layout import RunDir
from k8s_e2e.model.profile import Profile
from k8s_e2e.model.settings import Settings
from k8s_e2e.platform.http import Requester
from k8s_e2e.platform.kube import Kube
from k8s_e2e.platform.portforward import PortForwards
from k8s_e2e.scenarios.references import Unknown

if TYPE_CHECKING:
    from k8s_e2e.scenarios.browser import Browser


@dataclass(frozen=True, kw_only=True)
class Context:
    """The running platform and the run directory: the same for all scenarios of a run."""

    kube: Kube
    requester: Requester
    forwards: PortForwards
    kubectl: Path
    cluster: Cluster
    namespace: str
    profile: Profile
    run: RunDir
    run_id: str
    settings: Settings
    cleaner: Cleaner = field(default_factory=Cleaner)
    """Knows the values of Secrets; what steps show goes through it."""
    image_prefix: str = ""


@dataclass
class Outcome:
    """How a step ended. ``text`` is everything that `expect_failure` may find its words in, beside the message."""

    passed: bool
    message: str = ""
    skipped: bool = False
    expected: Any = None
    actual: Any = None
    diff: str = ""
    last_seen: str = ""
    hopeless: str = ""
    looks: int = 1
    trace_ids: list[str] = field(default_factory=list)
    evidence: list[str] = field(default_factory=list)
    captured: dict[str, Any] = field(default_factory=dict)
    covered: dict[str, Any] = field(default_factory=dict)
    """Of what was captured from a Secret: what may be written instead."""
    text: str = ""
    waited: bool = False  # in vain: where it got stuck is worth a look


@dataclass
class World:
    """One scenario under way."""

    context: Context
    scenario: str
    directory: Path
    """Where the scenario file lies."""
    redactor: Redactor
    browser: "Browser"
    progress: Progress
    names: dict[str, Any] = field(default_factory=dict)
    """Captured values and variables."""
    covered: dict[str, Any] = field(default_factory=dict)
    """Those captured from Secrets, as they may be written."""
    sent: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Step name -> (trace id, span id) of its last traced request."""
    step_id: str = ""
    step_name: str = ""
    cleaning: bool = False
    deadline: float = float("inf")
    """Monotonic time by which every step must end, whatever it asks for."""

    def lookup(self, name: str) -> Any:
        """Return the value of ``${name}``.

        Raises:
            Unknown: it has none.
        """
        if name == "run.id":
            return self.context.run_id
        if name == "run.namespace":
            return self.context.namespace
        if name == "run.image_prefix":
            return self.context.image_prefix
        if name not in self.names:
            raise Unknown(name)
        return self.names[name]

    def shown(self, obj: Any, name: str = "") -> Any:
        """Return what of an object may be shown: all, but of a Secret no value, which is learnt."""
        return self.context.cleaner.shown(obj, name)

    def keep(self, outcome: Outcome) -> None:
        """Take over what a step has captured."""
        self.names.update(outcome.captured)
        self.covered = {name: value for name, value in self.covered.items() if name not in outcome.captured}
        self.covered.update(outcome.covered)

    def within(self, asked_s: float | None, default_s: float) -> float:
        """Return how long a step may take: what it asks for, cut at the deadline."""
        wanted = default_s if asked_s is None else asked_s
        return max(0.0, min(wanted, self.deadline - time.monotonic()))

    def remember(self, traceparent: str) -> str:
        """Note that this step sent a traced request; return its trace id."""
        _, trace_id, span_id, _ = traceparent.split("-")
        self.sent[self.step_name] = (trace_id, span_id)
        return trace_id


def namespace_of(metadata: Mapping[str, Any], world: World) -> str:
    """Return the namespace an object is meant to be in: its own, or the run's."""
    return str(metadata.get("namespace") or world.context.namespace)
