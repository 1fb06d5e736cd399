"""One run as rules and reports read it: every sealed file that is there, and by name every one that is not."""

from functools import cached_property
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec

from k8s_e2e.base.errors import UsageError
from k8s_e2e.base.text import one_line
from k8s_e2e.model import io
from k8s_e2e.model.evidence import Actions, EventRevision, Manifest, ObjectRevision, Traces
from k8s_e2e.model.layout import RunDir
from k8s_e2e.model.results import RequestRecord, Results
from k8s_e2e.model.run import RunRecord
from k8s_e2e.model.traces import TraceAnalysis

T = TypeVar("T", bound=msgspec.Struct)

_ALL = (
    "record",
    "results",
    "manifest",
    "actions",
    "events",
    "history",
    "requests",
    "resources",
    "traces",
    "trace_analysis",
)


class Row(NamedTuple, Generic[T]):
    """One line of a JSON-lines file with the number it has there (from 1), so that evidence can point at it."""

    line: int
    value: T


class Observed:
    """The sealed files of one run, read on first use.

    Nothing here raises for what a file holds: what is absent or cannot be read becomes an entry of ``blind_spots``
    (path -> one line that says why, and what cannot be known without it).
    """

    def __init__(self, run: RunDir) -> None:
        self.run = run
        self.blind_spots: dict[str, str] = {}

    def configured(self, table: str) -> bool:
        """Whether the profile of this run has ``table``; what it leaves out is no blind spot."""
        return table not in self.record.unconfigured

    @cached_property
    def record(self) -> RunRecord:
        """`run.json`."""
        return self._struct(self.run.run_json, RunRecord, "what was run, and how its stages ended")

    @cached_property
    def results(self) -> Results:
        """`k8s-e2e-results.json`."""
        return self._struct(self.run.results, Results, "which scenarios ran and how they ended")

    @cached_property
    def manifest(self) -> Manifest:
        """`manifest.json`."""
        return self._struct(self.run.manifest, Manifest, "whether the evidence is complete and unchanged")

    @cached_property
    def actions(self) -> Actions:
        """`k8s/operator-actions.json`."""
        return self._struct(self.run.actions, Actions, "what the operator wrote", table="operator")

    @cached_property
    def traces(self) -> Traces:
        """`traces.json`."""
        return self._struct(self.run.traces, Traces, "which services a request crossed", table="traces")

    @cached_property
    def events(self) -> list[Row[EventRevision]]:
        """`k8s/events.jsonl`, oldest first."""
        rows = self._rows(self.run.events, EventRevision, "what Kubernetes said about its objects")
        return sorted(rows, key=lambda row: (row.value.time or row.value.seen, row.line))

    @cached_property
    def history(self) -> list[Row[ObjectRevision]]:
        """`k8s/history.jsonl` in the order of the file."""
        return self._rows(self.run.history, ObjectRevision, "how objects changed, and those deleted since")

    @cached_property
    def requests(self) -> list[Row[RequestRecord]]:
        """`requests.jsonl`, oldest first."""
        rows = self._rows(self.run.requests, RequestRecord, "what the kit sent")
        return sorted(rows, key=lambda row: (row.value.time, row.line))

    @cached_property
    def resources(self) -> list[dict[str, Any]]:
        """Objects of `k8s/resources.json`: the final state."""
        listed = self._json(self.run.resources, "the final state of the namespace")
        items = listed.get("items") if isinstance(listed, dict) else None
        return [item for item in items or [] if isinstance(item, dict)]

    @cached_property
    def trace_analysis(self) -> TraceAnalysis:
        """`trace-analysis.json`."""
        tells = "where requests spent their time"
        return self._struct(self.run.trace_analysis, TraceAnalysis, tells, table="traces")

    def everything(self) -> "Observed":
        """Read every file now, so that ``blind_spots`` is complete; returns itself."""
        for name in _ALL:
            getattr(self, name)
        if not self.run.pod_logs.is_dir():
            self.blind("k8s/logs", "absent: what containers said is unknown")
        for part in self.manifest.parts:
            if part.status != "ok":
                self.blind(f"manifest.json#{part.name}", f"{part.status}: {part.error or 'no reason was recorded'}")
        return self

    def blind(self, path: str, why: str) -> None:
        """Name something that cannot be looked at; the first reason given for a path stays."""
        self.blind_spots.setdefault(path, one_line(why))

    def relative(self, path: Path) -> str:
        """Return ``path`` as evidence pointers name it: relative to the run directory."""
        return path.relative_to(self.run.root).as_posix()

    def _struct(self, path: Path, model: type[T], tells: str, *, table: str = "") -> T:
        if not path.exists():
            if not table or self.configured(table):
                self.blind(self.relative(path), f"absent: {tells} is unknown")
            return model()
        try:
            return io.load(path, model)
        except UsageError as error:
            self.blind(self.relative(path), f"unreadable ({error.message}): {tells} is unknown")
            return model()

    def _json(self, path: Path, tells: str) -> Any:
        if not path.exists():
            self.blind(self.relative(path), f"absent: {tells} is unknown")
            return None
        try:
            return msgspec.json.decode(path.read_bytes())
        except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            self.blind(self.relative(path), f"unreadable ({error}): {tells} is unknown")
            return None

    def _rows(self, path: Path, model: type[T], tells: str) -> list[Row[T]]:
        if not path.exists():
            self.blind(self.relative(path), f"absent: {tells} is unknown")
            return []
        decoder = msgspec.json.Decoder(model)
        rows: list[Row[T]] = []
        bad: list[int] = []
        try:
            with path.open("rb") as stream:
                for number, line in enumerate(stream, 1):
                    try:
                        rows.append(Row(number, decoder.decode(line)))
                    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                        bad.append(number)
        except OSError as error:
            self.blind(self.relative(path), f"unreadable ({error.strerror}): {tells} is unknown")
        if bad:
            self.blind(self.relative(path), f"{len(bad)} unreadable line(s), the first is {bad[0]}: part is unknown")
        return rows
