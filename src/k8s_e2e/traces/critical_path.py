"""The critical path of a trace: which span everybody waited for, at every moment of it.

From a span's end backwards: the child that finished last (``end <= cursor``, equal microseconds included) was waited
for; then the cursor is where that child began. What lies between is the span's own. The idea is that of Uber's CRISP
(Zhang et al., USENIX ATC 2022); here without recursion, and ties and overflow are handled as said below.

- A child is clamped to the stretch of its parent that is looked at; what is empty then is left out.
- A consumer below a producer, and a span that follows from its parent, are never waited for.
- Of children that end together the longest is taken, and its stretch is marked ambiguous. So is a stretch of the
  span's own during which a child ran that is not on the path.
"""

from typing import NamedTuple

from k8s_e2e.traces.spans import Span, Trace


class Segment(NamedTuple):
    """``span`` was waited for from ``start_us`` to ``end_us`` (microseconds since 1970)."""

    span: Span
    start_us: int
    end_us: int
    ambiguous: bool


class _Frame:
    """One span on the way down: where its cursor is, and which of its children come next."""

    __slots__ = ("ambiguous", "children", "cursor", "low", "next", "skipped_us", "span")

    def __init__(self, span: Span, low: int, high: int, trace: Trace, *, ambiguous: bool) -> None:
        self.span = span
        self.low = low
        self.cursor = high
        self.children = _candidates(span, low, high, trace)
        self.next = 0
        self.skipped_us = high  # the earliest start of a child that was passed over
        self.ambiguous = ambiguous


def critical_path(trace: Trace) -> list[Segment]:
    """Return the path in order of time: disjoint segments whose sum is exactly the root's duration."""
    found: list[Segment] = []
    root = trace.root
    stack = [_Frame(root, root.start_us, root.end_us, trace, ambiguous=False)]
    while stack:
        frame = stack[-1]
        child = _step(frame, found, trace)
        if child:
            stack.append(child)
        else:
            _own(frame, frame.low, found)
            stack.pop()
    found.reverse()
    return found


def _step(frame: _Frame, found: list[Segment], trace: Trace) -> _Frame | None:
    """Go on to the next child that was waited for; None when there is none left."""
    children = frame.children
    while frame.next < len(children):
        end, start, child = children[frame.next]
        frame.next += 1
        if end > frame.cursor:
            frame.skipped_us = min(frame.skipped_us, start)
            continue
        _own(frame, end, found)
        frame.cursor = start
        tie = frame.next < len(children) and children[frame.next][0] == end
        return _Frame(child, start, end, trace, ambiguous=frame.ambiguous or tie)
    return None


def _own(frame: _Frame, low: int, found: list[Segment]) -> None:
    """Give the span what lies between ``low`` and its cursor; those passed over end behind the cursor."""
    if frame.cursor > low:
        ambiguous = frame.ambiguous or frame.skipped_us < frame.cursor
        found.append(Segment(frame.span, low, frame.cursor, ambiguous))


def _candidates(span: Span, low: int, high: int, trace: Trace) -> list[tuple[int, int, Span]]:
    """Return the children that may have been waited for, clamped: last end first, the longest first among equals."""
    found = []
    for child in trace.children.get(span.span_id, ()):
        if child.follows or (child.kind == "consumer" and span.kind == "producer"):
            continue
        start, end = max(child.start_us, low), min(child.end_us, high)
        if end > start:
            found.append((end, start, child))
    found.sort(key=lambda one: (-one[0], one[1], one[2].span_id))
    return found
