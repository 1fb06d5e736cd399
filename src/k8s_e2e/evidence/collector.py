"""The final state of a namespace, collected into a run directory, whatever fails on the way."""

import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import yaml

from k8s_e2e.base import clock, files, process
from k8s_e2e.base.progress import Progress
from k8s_e2e.cluster.provider import Cluster
from k8s_e2e.cluster.providers import get_provider
from k8s_e2e.evidence import (
    component_logs,
    events,
    log_lines,
    missed_logs,
    operator_actions,
    pods,
    recorder,
    resources,
    service_logs,
)
from k8s_e2e.evidence.api_logs import container_runs
from k8s_e2e.evidence.caps import join
from k8s_e2e.evidence.history import event_revisions, last_states
from k8s_e2e.evidence.log_lines import LogLine
from k8s_e2e.evidence.parts import Parts
from k8s_e2e.evidence.secrets import Cleaner, run_salt
from k8s_e2e.evidence.sweep import sweep
from k8s_e2e.model.evidence import Manifest
from k8s_e2e.model.layout import RunDir
from k8s_e2e.model.profile import OperatorSource, Profile
from k8s_e2e.model.settings import Settings
from k8s_e2e.platform.http import Requester
from k8s_e2e.platform.kube import ApiError, Kube

ENDPOINT_S = 10.0  # one hung endpoint costs this
DESCRIBE_S = 30.0
_YAML = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def collect(
    run: RunDir,
    cluster: Cluster,
    namespace: str,
    profile: Profile,
    requester: Requester | None,
    settings: Settings,
    progress: Progress,
) -> Manifest:
    """Write every observed file under ``k8s/`` and the component logs; the outcome of each part comes back.

    The recorder is drained first, and ends. Never raises for what a cluster does: a part that fails says so. What
    comes back is not sealed yet: the stage adds the parts of others (traces) and hands all to `manifest.seal`.
    """
    parts = Parts()
    began = time.monotonic()
    try:
        with Kube.connect(cluster.kubeconfig, cluster.context) as kube:
            _Collection(run, cluster, namespace, profile, requester, settings, kube, parts, progress).work()
    except ApiError as error:
        parts.add("cluster", "failed", began, error=str(error))
        without_cluster(run, settings, parts)
    return Manifest(parts=parts.all())


def without_cluster(run: RunDir, settings: Settings, parts: Parts) -> None:
    """Do what can be done where nobody can be asked: end the recorder, replace what it knows to be secret."""
    state = recorder.place(run, settings)
    cleaner = Cleaner(run_salt(state) if state.exists() else b"")
    # What is sealed must be written no more.
    parts.do("recorder", lambda: int(recorder.drain(run, settings, redactor=cleaner.redactor)))
    parts.do("redaction", lambda: sweep(run, cleaner))


@dataclass
class _Found:
    """What one reading thread has found: its own until it is over, nobody's if it is not over in time."""

    parts: Parts = field(default_factory=Parts)
    listings: list[resources.Listing] = field(default_factory=list)
    descriptions: str = ""
    api_actions: Any = None
    gap: bool = False  # the recorder ended too early


class _Collection:
    """One collection: what its parts share."""

    def __init__(
        self,
        run: RunDir,
        cluster: Cluster,
        namespace: str,
        profile: Profile,
        requester: Requester | None,
        settings: Settings,
        kube: Kube,
        parts: Parts,
        progress: Progress,
    ) -> None:
        self.run = run
        self.cluster = cluster
        self.namespace = namespace
        self.profile = profile
        self.requester = requester
        self.settings = settings
        self.kube = kube
        self.parts = parts
        self.progress = progress
        self.deadline = time.monotonic() + settings.collect_timeout_s
        self.cleaner = Cleaner(run_salt(recorder.place(run, settings)))
        self.found = _Found()

    def work(self) -> None:
        """Do all parts: first what waits for others, side by side; then what is written from it."""
        self.progress(f"collecting {self.namespace}")
        reading: dict[str, Callable[[_Found], int | None]] = {
            "recorder": self.drain,
            "resources": self.fetch,
            "pod-descriptions": self.describe,
        }
        operator = self.profile.operator
        if operator is not None and operator.actions_path and self.requester is not None:
            reading["operator-api"] = partial(self.ask_operator, operator, self.requester)
        self._together(reading)
        # From here on every Secret's value is known, also those that only the recorder has seen: what follows writes.
        resources.clean(self.found.listings, self.cleaner)
        writing: dict[str, Callable[[], int | None]] = {
            "redaction": lambda: sweep(self.run, self.cleaner),
            "resources.json": self.write_resources,
            "pod-descriptions.txt": self.write_descriptions,
            "events": self.write_events,
            "container-logs": self.complete_logs,
            "service-logs": self.write_service_logs,
        }
        if self.cluster.shared:
            why = "the cluster is not the kit's: what its own components said may not be read"
            self.parts.add("cluster-logs", "skipped", time.monotonic(), error=why)
        else:
            writing["cluster-logs"] = self.write_component_logs
        if operator is None:
            self.progress("no operator actions: the profile has no [operator]; managedFields say who wrote what")
        else:
            writing["operator-actions"] = partial(self.write_actions, operator)
        for name, part in writing.items():
            self.parts.do(name, part)

    def _together(self, work: dict[str, Callable[[_Found], int | None]]) -> None:
        """Do ``work`` side by side; what is not done by the deadline goes on for nobody: nothing of it is taken."""
        threads = []
        for name, part in work.items():
            found = _Found()
            thread = threading.Thread(target=found.parts.do, args=(name, partial(part, found)), name=name, daemon=True)
            threads.append((name, time.monotonic(), thread, found))
            thread.start()
        for name, began, thread, found in threads:
            thread.join(max(0.0, self.deadline - time.monotonic()))
            over = not thread.is_alive()
            if not over:
                limit = self.settings.collect_timeout_s
                self.parts.add(name, "failed", began, error=f"not done within {limit:g} s (collect_timeout_s)")
            for done in found.parts.all():
                if over or done.name != name:
                    self.parts.take(done)
            if over:
                self.found.listings += found.listings
                self.found.descriptions += found.descriptions
                self.found.api_actions = self.found.api_actions or found.api_actions
                self.found.gap |= found.gap

    # what is read

    def drain(self, found: _Found) -> int | None:
        """Let the recorder catch up and end; rows: 1 if there was one."""
        try:
            return int(recorder.drain(self.run, self.settings, redactor=self.cleaner.redactor))
        except recorder.RecorderFailed:
            found.gap = True
            raise

    def fetch(self, found: _Found) -> int:
        """List everything; rows: objects."""
        plurals = [f"{kind.plural}.{kind.group}" for kind in self.profile.custom_resources]
        found.listings = resources.fetch(self.kube, self.namespace, plurals, found.parts, timeout_s=ENDPOINT_S)
        return sum(len(listing.items) for listing in found.listings)

    def describe(self, found: _Found) -> None:
        """Run ``kubectl describe pods``."""
        argv: list[str | Path] = [
            self.cluster.kubectl,
            "--kubeconfig",
            self.cluster.kubeconfig,
            "--namespace",
            self.namespace,
        ]
        if self.cluster.context:
            argv += ["--context", self.cluster.context]
        done = process.run([*argv, "describe", "pods"], timeout_s=DESCRIBE_S, check=False)
        found.descriptions = done.stdout or done.stderr
        if done.code:
            message = f"kubectl describe pods exited with {done.code}: {process.tail(done.stderr)}"
            raise OSError(message)

    def ask_operator(self, operator: OperatorSource, requester: Requester, found: _Found) -> int:
        """Read the operator's own list of finished writes."""
        reply = requester.send(
            operator.service, "GET", operator.actions_path, step="collect", trace=False, timeout_s=ENDPOINT_S
        )
        if reply.status != 200:  # noqa: PLR2004
            message = f"{operator.service} answered {reply.status} to {operator.actions_path}"
            raise OSError(message)
        found.api_actions = reply.json()
        listed = found.api_actions.get("actions") if isinstance(found.api_actions, dict) else found.api_actions
        return len(listed) if isinstance(listed, list) else 0

    # what is written

    def write_resources(self) -> int:
        """Write resources.json, resources.txt and one YAML file a kind of custom resource."""
        whole = resources.as_list(self.found.listings)
        files.write(self.run.resources, msgspec.json.format(msgspec.json.encode(whole), indent=2) + b"\n")
        heading = f"Namespace {self.namespace} at {clock.now()}; ages count from then. Events: events.txt\n"
        files.write(self.run.path("k8s/resources.txt"), resources.as_text(self.found.listings, heading))
        for kind in self.profile.custom_resources:
            found = [
                {**item, "metadata": {key: value for key, value in item["metadata"].items() if key != "managedFields"}}
                for item in whole["items"]
                if item["kind"] == kind.kind and item["apiVersion"].startswith(f"{kind.group}/")
            ]
            here = f"{kind.plural}.{kind.group} in {self.namespace}"
            text = _yaml(found) if found else f"# no {here}\n"
            present = {item["metadata"].get("uid") for item in found}
            for uid, last in last_states(self.run.history, kind.group, kind.kind).items():
                if uid not in present:
                    state = "".join(f"# {line}\n" for line in _yaml([last.object]).splitlines())
                    text += f"# gone since, as last seen at {last.seen}:\n{state}"
            files.write(self.run.path(f"k8s/{kind.plural}.yaml"), text)
        return len(whole["items"])

    def write_descriptions(self) -> int:
        """Write pod-descriptions.txt."""
        text = self.cleaner.redactor.text(self.found.descriptions)
        files.write(self.run.path("k8s/pod-descriptions.txt"), text or "(kubectl described nothing)\n")
        return text.count("\n")

    def write_events(self) -> int:
        """Add to events.jsonl what the recorder has not seen, and write events.txt."""
        known = event_revisions(self.run.events)
        have = {(item.uid, item.resource_version) for item in known}
        seen = clock.now()
        fresh = [
            revision
            for listing in self.found.listings
            if listing.resource.kind == "Event"
            for revision in (events.revision(item, seen=seen) for item in listing.items)
            if (revision.uid, revision.resource_version) not in have
        ]
        lines = files.Lines(self.run.events)
        for revision in sorted(fresh, key=lambda item: item.time):
            lines.append(revision)
        lines.close()
        files.write(self.run.path("k8s/events.txt"), events.table([*known, *fresh]))
        return len(known) + len(fresh)

    def complete_logs(self) -> int:
        """Put log files together, and fetch over the API what no recorder has followed to its end. Rows: files."""
        for waiting in self.run.pod_logs.glob("*/.*.tail1"):  # of a recorder that was killed
            join(waiting.with_name(waiting.name[1:].removesuffix(".tail1")))
        failed, deadline = 0, time.monotonic() + self._left()
        for pod in (
            item for listing in self.found.listings if listing.resource.kind == "Pod" for item in listing.items
        ):
            failed += missed_logs.complete(
                self.kube, pod, self.run.pod_logs, self.cleaner.redactor, gap=self.found.gap, deadline=deadline
            )
        if failed:
            message = f"{failed} container logs could not be read; see logs/kit.jsonl"
            raise OSError(message)
        return sum(1 for _ in self.run.pod_logs.glob("*/*.txt"))

    def write_service_logs(self) -> int:
        """Write logs-<service>.txt; rows: services."""
        return service_logs.write(self.run.pod_logs, self.run.k8s, self._pods())

    def write_actions(self, operator: OperatorSource) -> int:
        """Write operator-actions.json from the operator's logs and what its API said."""
        services = {pod.service for pod in self._pods()}
        if operator.service not in services:
            message = (
                f"[operator] service: no pod is called {operator.service!r}; there are {', '.join(sorted(services))}"
            )
            raise OSError(message)
        rows = operator_actions.from_logs(self._operator_lines(operator.service), operator.event)
        present = [
            state.run
            for listing in self.found.listings
            if listing.resource.kind == "Pod"
            for item in listing.items
            if pods.listed([item])[0].service == operator.service
            for state in container_runs(item)
            if state.running
        ]
        if len(present) == 1:  # of two it is not known which one answered
            rows = operator_actions.with_api(rows, self.cleaner.patterns(self.found.api_actions), present[0])
        done = operator_actions.finished(rows)
        files.write_json(self.run.actions, done)
        return done.count

    def write_component_logs(self) -> int:
        """Write logs/cluster-<component>.txt."""
        with tempfile.TemporaryDirectory(prefix="k8s-e2e-cluster-logs-") as scratch:
            provider = get_provider(self.cluster.provider, self.settings)
            sources = provider.component_logs(self.cluster.name, Path(scratch), timeout_s=self._left())
            return component_logs.write(sources, self.run.logs, self.cleaner.redactor)

    def _left(self) -> float:
        """Return the seconds until the deadline; a part that begins after it has as long as one hung endpoint."""
        return max(self.deadline - time.monotonic(), ENDPOINT_S)

    def _pods(self) -> list[pods.Pod]:
        """Return all pods of the run, the oldest first."""
        final = [item for listing in self.found.listings if listing.resource.kind == "Pod" for item in listing.items]
        known = {pod.uid: pod for pod in [*pods.recorded(self.run.history), *pods.listed(final)]}
        return list(known.values())

    def _operator_lines(self, service: str) -> Iterator[LogLine]:
        for name in dict.fromkeys(pod.name for pod in self._pods() if pod.service == service):
            for path in sorted(Path(self.run.pod_logs / name).glob("*.txt")):
                with suppress(OSError):
                    yield from log_lines.read(path)


def _yaml(objects: list[dict[str, Any]]) -> str:
    text: str = yaml.dump_all(objects, Dumper=_YAML, sort_keys=False, allow_unicode=True, explicit_start=True)
    return text
