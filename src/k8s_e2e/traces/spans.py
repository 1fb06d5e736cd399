"""Spans and the tree they form: read from Jaeger's JSON, each once, whatever is missing or wrong in it.

Format: Jaeger's ``/api/traces`` (``spans`` with ``references``, ``processes`` by id, times in microseconds).
"""

import gc
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

CHILD_OF = "CHILD_OF"
FOLLOWS_FROM = "FOLLOWS_FROM"


class _Tag(msgspec.Struct, gc=False):
    key: str = ""
    value: Any = None


class _Reference(msgspec.Struct, gc=False):
    trace_id: str = msgspec.field(name="traceID", default="")
    span_id: str = msgspec.field(name="spanID", default="")
    kind: str = msgspec.field(name="refType", default=CHILD_OF)


class _Log(msgspec.Struct):
    fields: list[_Tag] = []


class _Process(msgspec.Struct):
    service: str = msgspec.field(name="serviceName", default="")
    tags: list[_Tag] = []


class _RawSpan(msgspec.Struct):
    trace_id: str = msgspec.field(name="traceID", default="")
    span_id: str = msgspec.field(name="spanID", default="")
    operation: str = msgspec.field(name="operationName", default="")
    references: list[_Reference] | None = None
    start: int | float = msgspec.field(name="startTime", default=0)
    duration: int | float = 0
    tags: list[_Tag] | None = None
    logs: list[_Log] | None = None
    process_id: str = msgspec.field(name="processID", default="")

    def richness(self) -> tuple[int, int, float]:
        """Order copies of one span by how much they say."""
        return len(self.tags or ()) + len(self.references or ()), len(self.logs or ()), self.duration


class _RawTrace(msgspec.Struct):
    trace_id: str = msgspec.field(name="traceID", default="")
    spans: list[_RawSpan] = []
    processes: dict[str, _Process] = {}


class _File(msgspec.Struct):
    data: list[_RawTrace] = []


class Span(msgspec.Struct, kw_only=True):
    """One span; times in microseconds since 1970. ``virtual``: nobody reported it, its children name it as parent."""

    trace_id: str
    span_id: str
    parent_id: str = ""
    service: str = ""
    operation: str = ""
    start_us: int = 0
    end_us: int = 0
    kind: str = ""  # server, client, producer, consumer, internal
    error: bool = False
    message: str = ""  # what failed, where the span says so
    http_status: int = 0
    pod: str = ""
    peer: str = ""  # whom a client span says it called
    follows: bool = False  # the parent did not wait for it
    links: list[str] = []  # trace ids of other traces that it refers to
    virtual: bool = False

    @property
    def duration_us(self) -> int:
        """``end_us - start_us``."""
        return self.end_us - self.start_us


class Trace(msgspec.Struct, kw_only=True):
    """One trace as a tree. ``spans`` by start time, the virtual ones left out; ``children`` by span id and start."""

    trace_id: str
    root: Span
    spans: list[Span]
    children: dict[str, list[Span]]
    orphans: int = 0
    duplicates: int = 0
    cycles: int = 0


def load(data: bytes, known_parents: Iterable[str] = ()) -> list[Trace]:
    """Read a ``traces.json`` (``{"data": [...]}``) into trees, by start time.

    ``known_parents`` are span ids that are parents although nobody reports them: the kit's own requests.

    Raises:
        msgspec.DecodeError: it is not of that form.
    """
    known = frozenset(known_parents)
    with _no_garbage_collection():
        raw = msgspec.json.decode(data, type=_File).data
        spans: dict[str, dict[str, tuple[_RawSpan, dict[str, _Process]]]] = {}
        duplicates: dict[str, int] = {}
        for trace in raw:
            for span in trace.spans:
                trace_id = span.trace_id or trace.trace_id
                found = spans.setdefault(trace_id, {})
                before = found.get(span.span_id)
                if before:
                    duplicates[trace_id] = duplicates.get(trace_id, 0) + 1
                if before is None or span.richness() > before[0].richness():
                    found[span.span_id] = (span, trace.processes)
        trees = []
        for trace_id, found in spans.items():
            tree = build(trace_id, [_span(trace_id, one, processes) for one, processes in found.values()], known)
            tree.duplicates = duplicates.get(trace_id, 0)
            trees.append(tree)
    return sorted(trees, key=lambda tree: (tree.root.start_us, tree.trace_id))


def build(trace_id: str, spans: list[Span], known_parents: frozenset[str] = frozenset()) -> Trace:
    """Make one tree of the spans of a trace (at least one, each id once).

    A parent that is missing is put in as a virtual span around its children, below the trace's root; a circle of
    parents is cut at its earliest span; several roots get one virtual root around them.
    """
    spans.sort(key=lambda span: (span.start_us, -span.end_us, span.span_id))
    by_id = {span.span_id: span for span in spans}
    cycles = _cut_cycles(spans, by_id)
    roots: list[Span] = []
    lost: dict[str, list[Span]] = {}
    children: dict[str, list[Span]] = {}
    orphans = 0
    for span in spans:
        if not span.parent_id or span.parent_id in known_parents:
            roots.append(span)
        elif span.parent_id in by_id:
            children.setdefault(span.parent_id, []).append(span)
        else:
            orphans += 1
            lost.setdefault(span.parent_id, []).append(span)
    for missing, left in sorted(lost.items()):
        parent = _around(trace_id, missing, left)
        children[missing] = left
        if roots and not roots[0].virtual:
            children.setdefault(roots[0].span_id, []).append(parent)
        else:
            roots.append(parent)
    root = roots[0] if len(roots) == 1 else _around(trace_id, "", roots)
    if root.virtual and root.span_id == "":
        children[""] = roots
    for siblings in children.values():
        siblings.sort(key=lambda span: (span.start_us, -span.end_us, span.span_id))
    return Trace(trace_id=trace_id, root=root, spans=spans, children=children, orphans=orphans, cycles=cycles)


def _around(trace_id: str, span_id: str, inside: list[Span]) -> Span:
    return Span(
        trace_id=trace_id,
        span_id=span_id,
        operation="(not reported)" if span_id else "(several roots)",
        start_us=min(span.start_us for span in inside),
        end_us=max(span.end_us for span in inside),
        virtual=True,
    )


def _cut_cycles(spans: list[Span], by_id: dict[str, Span]) -> int:
    """Remove one parent reference from each circle of parents: that of its earliest span. Returns the number cut."""
    done: set[str] = set()
    cut = 0
    for first in spans:
        path: list[str] = []
        on_path: set[str] = set()
        span: Span | None = first
        while span is not None and span.span_id not in done:
            if span.span_id in on_path:
                circle = path[path.index(span.span_id) :]
                earliest = min((by_id[one] for one in circle), key=lambda one: (one.start_us, one.span_id))
                earliest.parent_id = ""
                cut += 1
                break
            path.append(span.span_id)
            on_path.add(span.span_id)
            span = by_id.get(span.parent_id) if span.parent_id else None
        done.update(path)
    return cut


def _span(trace_id: str, raw: _RawSpan, processes: dict[str, _Process]) -> Span:
    process = processes.get(raw.process_id) or _Process()
    parent, follows, links = "", False, []
    for reference in raw.references or ():
        if reference.trace_id and reference.trace_id != trace_id:
            links.append(reference.trace_id)
        elif reference.kind == CHILD_OF and (not parent or follows):
            parent, follows = reference.span_id, False
        elif not parent:
            parent, follows = reference.span_id, True
    tags = {tag.key: tag.value for tag in raw.tags or ()}
    start = int(raw.start)
    return Span(
        trace_id=trace_id,
        span_id=raw.span_id,
        parent_id="" if parent == raw.span_id else parent,
        service=process.service,
        operation=raw.operation,
        start_us=start,
        end_us=start + max(0, int(raw.duration)),
        kind=str(tags.get("span.kind", "")),
        error=tags.get("error") in (True, "true") or tags.get("otel.status_code") == "ERROR",
        message=_message(tags, raw.logs or []),
        http_status=_number(tags.get("http.response.status_code", tags.get("http.status_code"))),
        pod=next((str(tag.value) for tag in process.tags if tag.key == "k8s.pod.name"), ""),
        peer=_peer(tags),
        follows=follows,
        links=links,
    )


def _message(tags: dict[str, Any], logs: list[_Log]) -> str:
    told = tags.get("otel.status_description") or tags.get("exception.message") or tags.get("error.type")
    if told:
        return str(told)
    for log in logs:
        fields = {field.key: field.value for field in log.fields}
        if fields.get("exception.message") or fields.get("message"):
            return str(fields.get("exception.message") or fields.get("message"))
    return ""


def _peer(tags: dict[str, Any]) -> str:
    names = ("peer.service", "db.system", "db.system.name", "messaging.system", "server.address", "net.peer.name")
    return next((str(tags[name]) for name in names if tags.get(name)), "")


def _number(value: Any) -> int:
    try:
        return int(value)
    except (TypeError, ValueError):
        return 0


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Pause the collector: a million new objects would be walked again and again, and none of them is garbage."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
