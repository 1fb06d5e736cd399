"""The documentation: its links lead somewhere, and its commands exist."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.command_lines import problem

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])

_FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_OURS = re.compile(r"^(?:\$ )?((?:\./e2e|k8s-e2e|(?:\.venv/bin/)?task) .*)$")
_ENDS = re.compile(r"\s(?:\||&&|;|>|#)\s.*$")
_SKETCH = re.compile(r"\.\.\.|…|[\[\]|<>]|\bANYTHING\b|\bX\b")  # a form, not a command
_TASK_NAMES = [
    match[1] for match in re.finditer(r"^  ([a-z0-9:]+):$", (ROOT / "Taskfile.yml").read_text(), re.MULTILINE)
]


def commands(page: str) -> Iterator[str]:
    """Yield the commands of ours that a page shows: in a line of a code block, or in code in the text."""
    blocks = [line.strip() for block in _FENCE.findall(page) for line in block.splitlines()]
    for text in [*blocks, *_CODE.findall(_FENCE.sub("", page))]:
        if found := _OURS.match(text):
            yield _ENDS.sub("", found[1])


def broken_links(path: Path, text: str) -> list[str]:
    """Return the links of a page to files or headings that are not there."""
    found = []
    for target in _LINK.findall(_CODE.sub("", _FENCE.sub("", text))):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, heading = target.partition("#")
        file = (path.parent / name).resolve() if name else path
        if not file.exists() or (heading and heading not in headings(file.read_text())):
            found.append(target)
    return found


def headings(text: str) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)$", _FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    """Every relative link of a page names a file that is there, and a heading that it has."""
    assert broken_links(path, path.read_text()) == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_commands_exist(path, monkeypatch):
    """Every command of ours that a page shows is one, and takes the options that it is shown with."""
    monkeypatch.chdir(ROOT)
    wrong = {}
    for command in commands(path.read_text()):
        said = _named_only(command) if _SKETCH.search(command) else problem(command, tasks=_TASK_NAMES)
        if said and "Missing argument" not in said and "Missing option" not in said:  # a command named in passing
            wrong[command] = said
    assert wrong == {}


def _named_only(command: str) -> str:
    """Check of a sketch such as `k8s-e2e up [NAME]` that the command itself exists."""
    words = command.split()[:2]
    return problem(" ".join(words), tasks=_TASK_NAMES) if re.fullmatch(r"[a-z-]+", words[-1]) else ""


def test_what_is_wrong_is_found():
    """The checks above can fail."""
    page = "See [x](nowhere.md), [y](#no-such).\n\n```sh\n./e2e rum --keep  # all\n```\n`k8s-e2e verify DIR --fast`\n"
    assert broken_links(ROOT / "README.md", page) == ["nowhere.md", "#no-such"]
    assert [problem(command) != "" for command in commands(page)] == [True, True]
