"""The critical path against its definition, and against counting every microsecond."""

from hypothesis import given, settings
from hypothesis import strategies as st

from k8s_e2e.traces.critical_path import critical_path
from k8s_e2e.traces.self_time import self_times
from k8s_e2e.traces.spans import Span, Trace, build


def span(name: str, parent: str, start: int, end: int, **more) -> Span:
    """Make a span of trace t, its service named like itself."""
    return Span(trace_id="t", span_id=name, parent_id=parent, service=name, start_us=start, end_us=end, **more)


def owners(trace: Trace) -> dict[int, str]:
    """Say for each microsecond of the root whose it is, by the rule alone and one step at a time."""
    owned: dict[int, str] = {}

    def visit(one: Span, low: int, high: int) -> None:
        cursor = high
        while True:
            best = None
            for child in trace.children.get(one.span_id, []):
                if child.follows or (child.kind == "consumer" and one.kind == "producer"):
                    continue
                start, end = max(child.start_us, low), min(child.end_us, high)
                key = (end, -start)
                better = best is None or key > best[0] or (key == best[0] and child.span_id < best[1].span_id)
                if start < end <= cursor and better:
                    best = (key, child)
            if best is None:
                break
            (end, negative), child = best
            owned.update(dict.fromkeys(range(end, cursor), one.span_id))
            visit(child, -negative, end)
            cursor = -negative
        owned.update(dict.fromkeys(range(low, cursor), one.span_id))

    visit(trace.root, trace.root.start_us, trace.root.end_us)
    return owned


@st.composite
def trees(draw):
    """Small trees whose spans overlap, overflow and tie as they like."""
    count = draw(st.integers(1, 9))
    spans = []
    for index in range(count):
        start = draw(st.integers(0, 20))
        spans.append(
            span(
                f"s{index}",
                f"s{draw(st.integers(0, index - 1))}" if index else "",
                start,
                start + draw(st.integers(0, 20)),
                kind=draw(st.sampled_from(["server", "producer", "consumer"])),
                follows=index > 0 and draw(st.integers(0, 5)) == 0,
            )
        )
    return spans


@settings(max_examples=400, deadline=None)
@given(trees())
def test_segments_are_disjoint_ordered_and_sum_to_the_root(spans):
    """The path covers the root's duration exactly once, in order of time."""
    trace = build("t", spans)
    path = critical_path(trace)
    assert trace.root.duration_us == sum(segment.end_us - segment.start_us for segment in path)
    edges = [trace.root.start_us, *(edge for one in path for edge in (one.start_us, one.end_us)), trace.root.end_us]
    assert edges == sorted(edges)
    assert all(one.end_us > one.start_us for one in path)


@settings(max_examples=400, deadline=None)
@given(trees())
def test_every_microsecond_belongs_to_whom_the_rule_says(spans):
    """The path equals what trying all children at every step finds."""
    trace = build("t", spans)
    found = {at: one.span.span_id for one in critical_path(trace) for at in range(one.start_us, one.end_us)}
    assert owners(trace) == found


@settings(max_examples=200, deadline=None)
@given(trees())
def test_self_time_is_what_no_child_covers(spans):
    """Self time equals counting the microseconds without a child."""
    trace = build("t", spans)
    expected = {
        one.span_id: sum(
            not any(child.start_us <= at < child.end_us for child in trace.children.get(one.span_id, []))
            for at in range(one.start_us, one.end_us)
        )
        for one in trace.spans
    }
    assert expected == self_times(trace)


def test_a_child_that_ends_with_its_parent_is_on_the_path():
    """Equal microseconds count: the last child of a span is not dropped because it ends with it."""
    trace = build("t", [span("a", "", 0, 10), span("b", "a", 4, 10)])
    assert [(one.span.span_id, one.start_us, one.end_us) for one in critical_path(trace)] == [("a", 0, 4), ("b", 4, 10)]


def test_overlapping_siblings_make_the_stretch_ambiguous():
    """A span's own time during which a child off the path ran is marked."""
    trace = build("t", [span("a", "", 0, 15), span("b", "a", 0, 10), span("c", "a", 5, 12)])
    path = [(one.span.span_id, one.start_us, one.end_us, one.ambiguous) for one in critical_path(trace)]
    assert path == [("a", 0, 5, True), ("c", 5, 12, False), ("a", 12, 15, False)]


def test_depth_and_width_cost_no_recursion_and_no_square():
    """A chain of 100,000 spans and 20,000 overlapping siblings need no deep stack, and what they take is the root."""
    chain = [
        span(f"{index:06}", f"{index - 1:06}" if index else "", index, 400_000 - index) for index in range(100_000)
    ]
    assert sum(one.end_us - one.start_us for one in critical_path(build("t", chain))) == 400_000
    wide = [span("root", "", 0, 100_000)]
    wide += [span(f"{index:05}", "root", index, 50_000 + index) for index in range(20_000)]
    assert sum(one.end_us - one.start_us for one in critical_path(build("t", wide))) == 100_000
