"""What every rule may look at: one run, indexed, and the words a rule says its finding with."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from urllib.parse import urlsplit

import msgspec

from k8s_e2e.base import clock
from k8s_e2e.diagnosis.logs import LogFile, LogLine, files, read
from k8s_e2e.diagnosis.objects import Objects, Tracked, listing, mapping
from k8s_e2e.diagnosis.observed import Observed, Row
from k8s_e2e.diagnosis.pods import Pod, pods
from k8s_e2e.diagnosis.verdict import Failure, Verdict, verdict
from k8s_e2e.model.evidence import EventRevision
from k8s_e2e.model.story import Finding

_LAST_WORDS = 40  # lines of a container's end that are searched for why it ended

CAUSE, SIGN, CONSEQUENCE, SYMPTOM = range(4)
"""How far a finding is from the root: a mechanism that failed, a sign that one did (a probe that fails, which something
else often explains), what it led to, what the test noticed."""


@dataclass(frozen=True)
class Candidate:
    """A finding before ranking.

    ``touches`` names the objects (`Kind/name`) whose trouble it would explain; ``wide`` says that it also explains what
    was never made at all, as the denial of a controller does. ``over`` is when the trouble ended by itself.
    ``decisive``: the failing step's own words prove it.
    """

    finding: Finding
    level: int
    touches: frozenset[str] = field(default_factory=frozenset)
    over: str = ""
    wide: bool = False
    decisive: bool = False


class Facts:
    """One run as the rules see it; everything is computed once, on first use."""

    def __init__(self, observed: Observed) -> None:
        self.observed = observed

    @cached_property
    def verdict(self) -> Verdict:
        """How the run ended."""
        return verdict(self.observed.record, self.observed.results)

    @property
    def failure(self) -> Failure | None:
        """What failed first."""
        return self.verdict.failure

    @cached_property
    def objects(self) -> Objects:
        """Every object ever seen."""
        return Objects(self.observed)

    @cached_property
    def pods(self) -> list[Pod]:
        """Every pod ever seen."""
        return pods(self.objects)

    @cached_property
    def events(self) -> dict[str, list[Row[EventRevision]]]:
        """Events by the object they are about (`Kind/name`), oldest first."""
        by_object: dict[str, list[Row[EventRevision]]] = {}
        for row in self.observed.events:
            by_object.setdefault(f"{row.value.kind}/{row.value.object}", []).append(row)
        return by_object

    @cached_property
    def log_files(self) -> list[LogFile]:
        """Every container log."""
        return files(self.observed)

    @cached_property
    def failure_end(self) -> str:
        """When the first failure was over, empty without one."""
        if self.failure is None or not self.failure.started:
            return ""
        try:
            return clock.rfc3339(clock.epoch(self.failure.started) + self.failure.duration_s)
        except ValueError:
            return ""

    @cached_property
    def failure_text(self) -> str:
        """Everything the failing step or stage said, to see which objects it names."""
        if self.failure is None:
            return ""
        if self.failure.step is not None:
            return msgspec.json.encode(self.failure.step).decode()
        stage = self.failure.stage
        return f"{stage.error} {stage.hint}" if stage else self.failure.message

    def last_event(self, ref: str, *reasons: str) -> Row[EventRevision] | None:
        """Return the newest event about ``ref`` (with one of ``reasons``)."""
        rows = [row for row in self.events.get(ref, []) if not reasons or row.value.reason in reasons]
        return rows[-1] if rows else None

    def last_words(self, pod: str, container: str) -> list[LogLine]:
        """Return the last lines of the newest run of a container that left any, the crashed (previous) one first."""
        of_container = [file for file in self.log_files if (file.pod, file.container) == (pod, container)]
        for file in sorted(of_container, key=lambda file: (not file.previous, file.path.name)):
            tail = deque((line for line in read(self.observed, file) if line.message.strip()), maxlen=_LAST_WORDS)
            if tail:
                return list(tail)
        return []

    def around(self, tracked: Tracked) -> frozenset[str]:
        """Return the refs of an object, its owners, all that those own, and the Services that select its pods.

        A Service counts with the pods behind it, as if it owned them.
        """
        top = [tracked, *self.objects.owners(tracked)]
        if tracked.kind == "Service":
            top += [one for pod in self.objects.selected(tracked) for one in (pod, *self.objects.owners(pod))]
        found = {one.ref for one in top}
        for one in top:
            found |= {below.ref for below in self.objects.descendants(one)}
        for service in self.objects.of("Service"):
            if any(pod.ref in found for pod in self.objects.selected(service)):
                found.add(service.ref)
        return frozenset(found)

    @cached_property
    def hosts(self) -> dict[str, frozenset[str]]:
        """Pod ref -> refs of the Services that its environment names as hosts."""
        services = {service.name: service.ref for service in self.objects.of("Service")}
        found = {}
        for pod in self.pods:
            names = {_host(value).split(".")[0] for value in self._environment(pod)}
            found[pod.tracked.ref] = frozenset(services[name] for name in names if name in services)
        return found

    def _environment(self, pod: Pod) -> Iterator[str]:
        """Values of a pod's environment, those of whole ConfigMaps too."""
        for container in listing(pod.tracked.last, "spec", "containers"):
            yield from (str(variable.get("value") or "") for variable in listing(container, "env"))
            for source in listing(container, "envFrom"):
                config = self.objects.find("ConfigMap", str(mapping(source, "configMapRef").get("name", "")))
                yield from (str(value) for value in (mapping(config.last, "data").values() if config else ()))

    def operators(self, tracked: Tracked) -> frozenset[str]:
        """Return the refs of the pods, and their owners, that may write the status of a custom resource.

        Who reconciles a kind stands nowhere; but a Role of its ServiceAccount names the kind's group and status.
        """
        group, plural = tracked.api_version.rpartition("/")[0], self._plurals.get(tracked.kind, "")
        roles = {role.name for role in self.objects.of("Role") if _writes_status(role, group, plural)}
        accounts = {
            str(subject.get("name"))
            for binding in self.objects.of("RoleBinding")
            if mapping(binding.last, "roleRef").get("name") in roles
            for subject in listing(binding.last, "subjects")
            if subject.get("kind") == "ServiceAccount"
        }
        pods = [
            pod.tracked for pod in self.pods if mapping(pod.tracked.last, "spec").get("serviceAccountName") in accounts
        ]
        return frozenset(one.ref for pod in pods for one in (pod, *self.objects.owners(pod)))

    @cached_property
    def _plurals(self) -> dict[str, str]:
        """Kind -> plural of the custom resources whose definition was seen."""
        names = [mapping(one.last, "spec", "names") for one in self.objects.of("CustomResourceDefinition")]
        return {str(name.get("kind")): str(name.get("plural")) for name in names}

    def declared_by(self, value: str) -> Tracked | None:
        """Return the newest custom resource whose spec holds ``value`` as one of its strings."""
        quoted = msgspec.json.encode(value)
        for tracked in reversed(self.objects.of()):
            if tracked.custom:
                spec = mapping(tracked.last, "spec")
                if spec and quoted in msgspec.json.encode(spec):
                    return tracked
        return None


def _writes_status(role: Tracked, group: str, plural: str) -> bool:
    """Whether a Role lets its holder write the status of that kind."""
    for rule in listing(role.last, "rules"):
        groups, resources, verbs = (
            {str(one) for one in found} if isinstance(found := rule.get(key), list) else set()
            for key in ("apiGroups", "resources", "verbs")
        )
        if (
            groups & {group, "*"}
            and resources & {f"{plural}/status", "*/status", "*"}
            and verbs & {"patch", "update", "*"}
        ):
            return True
    return False


def _host(value: str) -> str:
    try:
        return urlsplit(value).hostname or ""
    except ValueError:
        return ""
