"""Where the pictures of a timeline begin, and what they show of a stage that began long before."""

import pytest

from k8s_e2e.model.story import Timeline, TimelineItem
from k8s_e2e.report.timeline_text import opens_s, waterfall


def timeline(*, first_s: float, last_s: float) -> Timeline:
    """One stage from second 0 on, and one step at its end."""
    stage = TimelineItem(lane="stages", title="deploy", start_s=0.0, end_s=first_s, status="ok")
    step = TimelineItem(lane="steps", title="one/01 step", start_s=first_s, end_s=last_s, status="ok")
    return Timeline(epoch="2026-01-02T03:04:05.000000Z", items=[stage, step])


@pytest.mark.parametrize(("first_s", "last_s", "opens"), [(600.0, 700.0, 590.0), (40.0, 100.0, 0.0)])
def test_a_long_silence_is_not_drawn(first_s, last_s, opens):
    """A picture begins shortly before the first happening, if more than half of it would be empty."""
    assert opens_s(timeline(first_s=first_s, last_s=last_s)) == opens


def test_a_stage_that_began_before_the_picture_keeps_its_own_times():
    """Its bar is cut at the edge, and its start and duration are told as they were."""
    head, stage, step = waterfall(timeline(first_s=600.0, last_s=700.0), rows=5).splitlines()
    assert "590 s" in head
    assert "0.0 +600.0" in stage
    assert stage.split("|")[1].startswith("=")
    assert step.split("|")[1].rstrip().endswith("=" * 39)


def test_nothing_but_stages_is_drawn_whole():
    """Without any step, pod or event there is no silence to leave out."""
    alone = Timeline(items=[TimelineItem(lane="stages", title="deploy", start_s=0.0, end_s=9.0)])
    assert opens_s(alone) == 0.0
