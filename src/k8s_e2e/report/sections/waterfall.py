"""Section 3: the waterfall in text, and the picture."""

from k8s_e2e.diagnosis.facts import Facts
from k8s_e2e.model.story import Timeline
from k8s_e2e.report.model import Block, Image, Link, Para, Pre, Section
from k8s_e2e.report.timeline_text import waterfall

ROWS = 40


def section(facts: Facts, timeline: Timeline) -> Section:
    """Return section 3."""
    if not timeline.items:
        return Section(3, "Timeline", (Para("Nothing in this run has a time."),))
    links = ("All of it: ", Link("k8s/timeline.txt"), ", ", Link("timeline.json"), ", ", Link("timeline.png"))
    also = (*links, "; to zoom: ", Link("exports/timeline.perfetto.json"), " in Perfetto.")
    blocks: list[Block] = [
        Pre(waterfall(timeline, rows=ROWS)),
        Para(also),
        Image("timeline.png", "Timeline of the run"),
    ]
    if facts.failure_end:
        blocks.insert(0, Para(f"Second 0 is {timeline.epoch}; the first failure was over at {facts.failure_end}."))
    return Section(3, "Timeline", tuple(blocks), ("k8s/timeline.txt", "timeline.png", "timeline.json"))
