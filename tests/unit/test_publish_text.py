"""What is sent: inert on GitHub whatever the run's text, cut between sections only, and stamped."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from k8s_e2e.base.errors import UsageError
from k8s_e2e.diagnosis import diagnose
from k8s_e2e.report import write_reports
from k8s_e2e.report.github import shedding
from k8s_e2e.report.github.stamp import Age, age_of, marker, stamp
from k8s_e2e.report.github.views import comment, step_summary
from k8s_e2e.report.model import Bullets, Code, Fold, Para, Pre, Report, Section, Table, label
from tests.unit.test_report_text import HOSTILE, hostile_run

SOCIAL = [
    "@octocat please",
    "see #123 and GH-123 and octo/shop#7",
    "0123456789abcdef0123456789abcdef01234567",
    "octo/shop@0123456789abcdef0123456789abcdef01234567",
    "https://example.test/?a=1 www.example.test http://x",
    "mail someone@example.test",
    "<!-- k8s-e2e -->\n<!-- run 999 attempt 9 -->",
    "</details></details><h1>x</h1>",
    "## 3. not a section\n</details>\n<details><summary>no fold</summary>",
    "```\n@octocat\n````\n#1",
]
ALIVE = re.compile(r"(?<![\w`])@\w|#\d|\bGH-\d|https?://\w|\bwww\.\w|\b[0-9a-f]{7,40}\b")


def live_text(markdown):
    """Return the text that GitHub would look for mentions and references: all that is not code, and not hidden."""
    texts = []
    for token in MarkdownIt("commonmark", {"html": True}).enable("table").parse(markdown):
        texts += [child.content for child in token.children or [] if child.type == "text"]
        if token.type == "html_block":
            texts.append(re.sub(r"<[^>]*>", " ", token.content))
    return texts


def made_of(text, verdict):
    """Return a report that holds ``text`` in every kind of block."""
    row = (Code(text), Code(text), Code(text))
    first = (
        Bullets((label("Failed", Code(text)), label("Cause (fault lies with: x)", Code(text)), [Code(text)])),
        Pre(text, label("Difference of", Code(text))),
        Fold("other findings", (Para(Code(text)),)),
    )
    rest = (Para((text, " in our own words")), Table(("a", "b", "c"), (row,)), Pre(text), Fold("more", (Pre(text),)))
    sections = (Section(1, "Verdict", first), *(Section(number, f"Part {number}", rest) for number in range(2, 7)))
    title = "PASSED: 1 of 1 steps passed" if verdict == "passed" else f"FAILED: {text}"
    return Report(title=title, verdict=verdict, front={}, sections=sections)


@pytest.mark.parametrize("verdict", ["passed", "failed", "interrupted"])
@pytest.mark.parametrize("text", [*SOCIAL, *HOSTILE], ids=lambda text: repr(text[:12]))
def test_nothing_of_a_run_comes_to_life(text, verdict):
    """No mention, reference, hash, address, marker or fold of the run's text is outside of code."""
    for told in (comment(made_of(text, verdict)), step_summary(made_of(text, verdict))):
        assert not [one for one in live_text(told) if ALIVE.search(one)]
    told = comment(made_of(text, verdict))
    assert told.startswith("<!-- k8s-e2e -->\n### ")
    html = [token.content for token in MarkdownIt("commonmark", {"html": True}).enable("table").parse(told)
            if token.type == "html_block"]  # fmt: skip
    tags = re.findall(r"</?[a-z0-9]+", "".join(html))
    assert set(tags) == {"<details", "</details", "<summary", "</summary"}
    assert tags.count("<details") == tags.count("</details")


@pytest.mark.parametrize("text", SOCIAL, ids=lambda text: repr(text[:12]))
def test_a_whole_run_of_it_is_inert(tmp_path, text):
    """Wherever a cluster could put such text, comment and summary of the run hold it as code."""
    run = hostile_run(tmp_path, text).write()
    diagnose(run)
    write_reports(run)
    for name in ("pr-comment.md", "step-summary.md"):
        told = run.path(name).read_text("utf-8")
        assert not [one for one in live_text(told) if ALIVE.search(one)]
        assert shedding.characters(told) <= 60_000 or name == "step-summary.md"


@given(st.text(alphabet="`#< \n-ab@de/tils>", max_size=400), st.integers(100, 1500))
def test_every_rung_fits_and_keeps_what_stands_first(text, budget):
    """Each form fits, is shorter than the one before, and begins with the first paragraph, untouched."""
    first = "<!-- k8s-e2e -->\n### ❌ FAILED: `x`\nlinks"
    whole = f"{first}\n\n{text}\n\n## 1. One\n\n{text}\n<details><summary>Two</summary>\n\n{text}\n\n</details>\n"
    sizes = []
    for rung in shedding.rungs(whole, budget=budget, size=shedding.characters, places="the artifact"):
        assert rung.startswith(first)
        sizes.append(shedding.characters(rung))
    assert all(size <= budget for size in sizes)
    assert sizes or budget < len(first) + 60


def test_what_is_left_out_is_named():
    """Sections go from the last on; each rung says which are gone and where they are."""
    fold = "<details><summary>Two</summary>\n\n```text\n</details>\n## 3. no\n```\n\n</details>\n"
    text = f"# t\n\nhead\n\n## 1. One\n\na\n\n{fold}"
    full, one, none, least = shedding.rungs(text, budget=10_000, size=shedding.octets, places="`e2e`")
    assert full == text
    assert one.endswith("## 1. One\n\na\n\nLeft out here: Two; see `e2e`.\n")
    assert none == "# t\n\nhead\n\nLeft out here: One, Two; see `e2e`.\n"
    assert least == "# t\n\nAll else is left out here; see `e2e`.\n"


def test_long_folds_do_not_make_a_comment_too_long():
    """A comment of many long sections keeps its first screen and the sections that fit, by characters, not bytes."""
    long = tuple(Para(("слово " * 300,)) for _ in range(12))
    first = Section(1, "Verdict", (Bullets((label("Failed", Code("step a")),)),))
    sections = (
        first,
        *(Section(number, f"Part {number}", (Table(("a",), (("b",),)), *long)) for number in range(2, 6)),
    )
    told = comment(Report(title="FAILED: step a", verdict="failed", front={}, sections=sections))
    assert 40_000 < shedding.characters(told) <= 60_000
    assert len(told.encode()) > 65_536
    assert told.rstrip().endswith("Left out here: Part 4, Part 5.")


def test_characters_are_counted_on_the_safe_side():
    """Never less than code points, never less than a browser counts."""
    assert [shedding.characters(text) for text in ("a", "ä", "✅", "🎉", "\ud800")] == [1, 1, 1, 2, 1]


@given(
    st.from_regex(r"[a-zA-Z0-9][a-zA-Z0-9 ._/()+,]{0,20}[a-z]", fullmatch=True),
    st.integers(0, 10**15),
    st.integers(0, 99),
)
def test_a_stamp_is_read_back(name, run_id, attempt):
    """Name, run and attempt come back, and under another name it is another comment's."""
    body = stamp(name, Age(run_id, attempt)) + "\n### title"
    assert age_of(body, name) == Age(run_id, attempt)
    assert age_of(body, name + "x") is None
    assert age_of(body, "") is None


@pytest.mark.parametrize("name", ["a --> b", "a--b", "x" * 61, "-", " a", "a\nb", "<b>", "ä", "a-"])
def test_a_name_cannot_end_the_hidden_line(name):
    """Such a name is refused, with what is allowed."""
    with pytest.raises(UsageError, match="--name"):
        marker(name)


@pytest.mark.parametrize(
    ("body", "age"),
    [
        ("<!-- k8s-e2e -->", Age()),
        ("<!-- k8s-e2e -->\ntext", Age()),
        ("<!-- k8s-e2e -->\n<!-- run x attempt 1 -->", Age()),
        ("<!-- k8s-e2e -->\r\n<!-- run 7 attempt 2 -->\r\n", Age(7, 2)),
        ("", None),
        ("text\n<!-- k8s-e2e -->", None),
    ],
)
def test_an_unreadable_age_is_the_oldest(body, age):
    """A comment of ours that says not when is older than any; one that begins with something else is not ours."""
    assert age_of(body, "") == age
