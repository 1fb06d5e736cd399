"""Section 9: the screenshots."""

from k8s_e2e.base.text import one_line
from k8s_e2e.diagnosis.facts import Facts
from k8s_e2e.report.model import Image, Para, Section
from k8s_e2e.report.timeline import screenshot_about

_MOST = 12


def section(facts: Facts) -> Section:
    """Return section 9."""
    paths = sorted(facts.observed.run.screenshots.glob("*.png"))
    images = []
    for path in paths[:_MOST]:
        about = screenshot_about(path.with_suffix(".json"))
        words = " ".join(str(about.get(key, "")) for key in ("step", "url", "time"))
        images.append(Image(f"screenshots/{path.name}", one_line(f"{path.stem} {words}".strip(), 200)))
    if not images:
        asked = any(step.kind == "screenshot" for one in facts.observed.results.scenarios for step in one.steps)
        words = "No screenshot was taken." if asked else "No step of this run takes one."
        return Section(9, "Screenshots", (Para(words),))
    left = (Para(f"{len(paths) - _MOST} more in screenshots/."),) if len(paths) > _MOST else ()
    return Section(9, "Screenshots", (*images, *left), ("screenshots",))
