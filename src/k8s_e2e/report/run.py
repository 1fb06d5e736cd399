"""A recorded run as pandas DataFrames on one clock: the API for notebooks and people."""

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from k8s_e2e.base.errors import UsageError
from k8s_e2e.diagnosis.engine import examine
from k8s_e2e.diagnosis.facts import Facts
from k8s_e2e.diagnosis.logs import read
from k8s_e2e.diagnosis.observed import Observed
from k8s_e2e.diagnosis.verdict import Verdict
from k8s_e2e.model import io
from k8s_e2e.model.layout import MARKER, RunDir
from k8s_e2e.model.run import RunRecord
from k8s_e2e.model.story import Findings
from k8s_e2e.report import frames
from k8s_e2e.report.spans import spans
from k8s_e2e.report.timeline import timeline

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

RUNS = Path("reports/runs")


class Run:
    """One run directory. Every table is read on first use; times are ``datetime64[us, UTC]``, durations float seconds.

    What is absent gives an empty table with the same columns; ``blind_spots`` names it.
    """

    def __init__(self, directory: RunDir) -> None:
        self.directory = directory
        self._observed = Observed(directory)
        self._facts = Facts(self._observed)

    @classmethod
    def open(cls, directory: str | Path) -> "Run":
        """Open a run directory.

        Raises:
            UsageError: it is no directory, or holds no `run.json`.
        """
        path = Path(directory)
        if not (path / MARKER).is_file():
            message = f"{path} is no run directory: it has no {MARKER}"
            raise UsageError(message, hint="name the directory of a run, such as reports/runs/NAME")
        return cls(RunDir(path))

    @classmethod
    def latest(cls, runs: str | Path = RUNS) -> "Run":
        """Open the run below ``runs`` that began last.

        Raises:
            UsageError: there is none.
        """
        found = [(_started(path), path.name, path) for path in Path(runs).glob("*") if (path / MARKER).is_file()]
        if not found:
            message = f"no run below {runs}"
            raise UsageError(message, hint="make one by `k8s-e2e run`, or name a directory: Run.open(DIR)")
        return cls.open(max(found)[2])

    def __repr__(self) -> str:
        return f"<Run {self.directory.root} {self.verdict.word}: {self.verdict.reason}>"

    @property
    def record(self) -> RunRecord:
        """`run.json`."""
        return self._observed.record

    @property
    def verdict(self) -> Verdict:
        """How the run ended, and why."""
        return self._facts.verdict

    @property
    def blind_spots(self) -> dict[str, str]:
        """What is absent or unreadable, by path."""
        return dict(self._observed.everything().blind_spots)

    @cached_property
    def stages(self) -> "pd.DataFrame":
        """One row a stage: name, status, started, ended, duration_s, exit_code, error, hint."""
        rows = [
            {
                "name": stage.name,
                "status": stage.status,
                "started": frames.moment(stage.started),
                "ended": frames.moment(stage.started, stage.duration_s),
                "duration_s": stage.duration_s,
                "exit_code": stage.exit_code,
                "error": stage.error,
                "hint": stage.hint,
            }
            for stage in self.record.stages
        ]
        return frames.frame("stages", rows)

    @cached_property
    def steps(self) -> "pd.DataFrame":
        """One row a step, cleanup included: id, scenario, name, kind, status, started, ended, duration_s, ..."""
        rows = [
            {
                "id": step.id,
                "scenario": scenario.name,
                "name": step.name,
                "kind": step.kind,
                "status": step.status,
                "started": frames.moment(step.started),
                "ended": frames.moment(step.started, step.duration_s),
                "duration_s": step.duration_s,
                "message": step.message,
                "attempts": step.attempts,
                "cleanup": step in scenario.cleanup,
                "trace_ids": step.trace_ids,
            }
            for scenario in self._observed.results.scenarios
            for step in [*scenario.steps, *scenario.cleanup]
        ]
        return frames.frame("steps", rows)

    @cached_property
    def events(self) -> "pd.DataFrame":
        """One row a revision of an Event: time, seen, type, reason, kind, object, message, count, evidence."""
        rows = [
            {
                "time": frames.moment(event.time),
                "seen": frames.moment(event.seen),
                "type": event.type,
                "reason": event.reason,
                "kind": event.kind,
                "object": event.object,
                "message": event.message,
                "count": event.count,
                "evidence": f"k8s/events.jsonl#L{line}",
            }
            for line, event in self._observed.events
        ]
        return frames.frame("events", rows)

    @cached_property
    def pods(self) -> "pd.DataFrame":
        """One row a pod ever seen: name, controller, created, scheduled, ready, deleted, restarts, problem, ..."""
        rows = [
            {
                "name": pod.name,
                "controller": pod.controller,
                "node": pod.node,
                "phase": pod.phase,
                "created": frames.moment(pod.created),
                "scheduled": frames.moment(pod.scheduled),
                "ready": frames.moment(pod.ready[0][0]) if pod.ready else None,
                "deleted": frames.moment(pod.deleted),
                "is_ready": pod.is_ready,
                "restarts": pod.restarts,
                "images": ", ".join(container.image for container in pod.containers if not container.init),
                "problem": pod.problem,
            }
            for pod in self._facts.pods
        ]
        return frames.frame("pods", rows)

    @cached_property
    def actions(self) -> "pd.DataFrame":
        """One row an action of the operator, writes and what it withheld: time, action, kind, name, outcome, ..."""
        rows = [
            {
                "time": frames.moment(action.time),
                "action": action.action,
                "kind": action.resource_kind,
                "name": action.resource_name,
                "environment_id": action.environment_id,
                "outcome": action.outcome,
                "http_status": action.http_status,
                "duration_s": action.duration_ms / 1000,
                "fields": action.fields,
                "reason": action.reason,
                "trace_id": action.trace_id,
                "span_id": action.span_id,
                "seq": action.seq,
                "pod": action.pod,
            }
            for action in self._observed.actions.actions
        ]
        return frames.frame("actions", rows)

    @cached_property
    def spans(self) -> "pd.DataFrame":
        """One row a span: trace_id, span_id, parent_id, service, operation, started, ended, duration_s, error, step."""
        step_of = {row.value.trace_id: row.value.step for row in self._observed.requests}
        rows = [
            {
                "trace_id": span.trace_id,
                "span_id": span.span_id,
                "parent_id": span.parent_id,
                "service": span.service,
                "operation": span.operation,
                "started": frames.at(span.start_s),
                "ended": frames.at(span.start_s + span.duration_s),
                "duration_s": span.duration_s,
                "error": span.error,
                "step": step_of.get(span.trace_id, ""),
            }
            for span in spans(self._observed)
        ]
        return frames.frame("spans", rows)

    @cached_property
    def logs(self) -> "pd.DataFrame":
        """One row a line of a container: time, pod, container, previous, level, message, evidence."""
        rows = [
            {
                "time": frames.moment(line.time),
                "pod": line.pod,
                "container": line.container,
                "previous": line.previous,
                "level": line.level,
                "message": line.message,
                "evidence": line.pointer,
            }
            for file in self._facts.log_files
            for line in read(self._observed, file)
        ]
        return frames.frame("logs", rows)

    @cached_property
    def requests(self) -> "pd.DataFrame":
        """One row a request of the kit: time, step, service, method, url, status, duration_s, error, trace_id."""
        rows = [
            {
                "time": frames.moment(request.time),
                "step": request.step,
                "service": request.service,
                "method": request.method,
                "url": request.url,
                "status": request.status,
                "duration_s": request.duration_s,
                "error": request.error,
                "trace_id": request.trace_id,
                "evidence": f"requests.jsonl#L{line}",
            }
            for line, request in self._observed.requests
        ]
        return frames.frame("requests", rows)

    @cached_property
    def findings(self) -> "pd.DataFrame":
        """One row a finding, best explanation first; worked out anew where there is no readable `findings.json`."""
        rows = [
            {
                "id": finding.id,
                "severity": finding.severity,
                "fault": finding.fault,
                "title": finding.title,
                "object": finding.object,
                "time": frames.moment(finding.time),
                "step": finding.step,
                "because": finding.because,
                "evidence": finding.evidence,
                "next_command": finding.next_command,
                "fix": finding.fix,
            }
            for finding in self._findings().findings
        ]
        return frames.frame("findings", rows)

    def plot_timeline(self) -> "Figure":
        """Draw stages, steps, pods, actions, events, requests, spans and screenshots on one clock (matplotlib)."""
        from k8s_e2e.report.timeline_png import figure  # noqa: PLC0415 - draws: costs a second

        return figure(
            timeline(self._facts), title=f"{self.record.run_id or self.directory.root.name}: {self.verdict.word}"
        )

    def _findings(self) -> Findings:
        try:
            return io.load(self.directory.findings, Findings)
        except UsageError:
            return examine(self._facts)


def _started(path: Path) -> str:
    record: Any = Observed(RunDir(path)).record
    return str(record.started)
