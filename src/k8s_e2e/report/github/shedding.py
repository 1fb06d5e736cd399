"""A report's Markdown made shorter: sections are left out from the last on, and what is left out is named.

Works on the text as it was written into the run directory (`step-summary.md`, `pr-comment.md`), so that what is sent
is what stands there. A cut is only ever made between sections: cut anywhere else, code could end up outside of code.
"""

import re
from collections.abc import Callable, Iterator

_FENCE = re.compile(r"`{3,}")
_SUMMARY = re.compile(r"<details><summary>(.*)</summary>$")


def characters(text: str) -> int:
    """Count ``text`` in UTF-16 units.

    GitHub's limit for a comment is "65,536 characters", without saying of which kind. There are never fewer UTF-16
    units than code points, and never more than three bytes of UTF-8 to one, so that a text within the limit by this
    count is within it by any, and within the 4 bytes a character that the API stores.
    """
    return len(text.encode("utf-16-le", "replace")) // 2


def octets(text: str) -> int:
    """Count ``text`` in bytes of UTF-8, as the limit of step summaries does."""
    return len(text.encode("utf-8", "replace"))


def rungs(text: str, *, budget: int, size: Callable[[str], int], places: str = "") -> Iterator[str]:
    """Yield ``text`` as far as it fits into ``budget``, then one section shorter each time.

    ``places`` says where the rest is, in Markdown. The last rung is the first paragraph alone; nothing is yielded only
    where not even that fits.
    """
    head, sections = split(text)
    for count in range(len(sections), -1, -1):
        rung = head + "".join(sections[:count])
        if sections[count:]:
            left = ", ".join(title(section) for section in sections[count:])
            rung = f"{rung.rstrip()}\n\nLeft out here: {left}{places and f'; see {places}'}.\n"
        if size(rung) <= budget:
            yield rung
    first, *paragraphs = head.split("\n\n")
    short = f"{first}\n\nAll else is left out here{places and f'; see {places}'}.\n"
    if paragraphs and size(short) <= budget:
        yield short


def split(text: str) -> tuple[str, list[str]]:
    """Return what stands before the first section, and the sections, each with its end of line.

    A section begins with ``## `` or a fold that is in no other one; neither counts inside a fence.
    """
    parts = [""]
    fence, depth = "", 0
    for line in text.split("\n"):
        if fence:
            fence = "" if line.strip() == fence else fence
        elif opening := _FENCE.match(line):
            fence = opening[0]
        elif line == "</details>":
            depth -= 1
        elif line.startswith("<details>"):
            if depth == 0:
                parts.append("")
            depth += 1
        elif line.startswith("## ") and depth == 0:
            parts.append("")
        parts[-1] += line + "\n"
    parts[-1] = parts[-1].removesuffix("\n")
    return parts[0], parts[1:]


def title(section: str) -> str:
    """Return the title of a section as it stands there, escaped already."""
    line = section.partition("\n")[0]
    fold = _SUMMARY.match(line)
    return fold[1] if fold else re.sub(r"^## (?:\d+\. )?", "", line)
