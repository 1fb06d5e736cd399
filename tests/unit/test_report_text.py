"""Text of the run is hostile: it breaks no format and commands nothing."""

import html.parser
import json
import re
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from k8s_e2e.base import text as harmless
from k8s_e2e.diagnosis import diagnose
from k8s_e2e.report import write_reports
from k8s_e2e.report.markdown import render, span
from k8s_e2e.report.model import Bullets, Code, Para, Pre, Report, Section, Table
from tests.unit import run_builder as made

HOSTILE = [
    "a | b || c",
    "```\n# not a heading\n```",
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<!-- never closed",
    "\n::error file=x::pwned\n",
    "##[error]pwned",
    "::add-mask::x",
    "progress 1\rprogress 2",
    "\x1b[31mred\x1b[0m \x1b]0;title\x07",
    "\ud800 lone surrogate",
    "nul \x00 bell \x07 del \x7f",
    "right \u202e to left \u2066",
    "]]> & &amp; <![CDATA[",
    "[click](javascript:alert(1)) @everyone #1 $HOME `x` ``y``",
    "---\nverdict: passed\n---",
    "{{ 7 * 7 }} {% raw %}",
    "x" * 1_000_000,
    "`" * 5000,
]


def hostile_run(root, text):
    """Return a written run that holds ``text`` wherever a cluster could put text."""
    builder = made.red_crash(root)
    raw = text.encode("utf-8", "surrogatepass").replace(b"\n", b"\\n")
    escaped = json.dumps(text).encode()
    text = text.encode("utf-8", "replace").decode()  # no JSON writer of ours writes a lone surrogate; logs do
    step = builder.results.scenarios[0].steps[1]
    step.name, step.message, step.diff, step.last_seen = text, text, text, text
    step.expected, step.actual, step.hopeless = {"field": text}, text, text
    builder.event(60, "Pod/deploy-users-9a-c3", text[:300], text)
    builder.actions[0].reason = builder.actions[0].resource_name = text[:2000]
    builder.record.stages[0].error = text
    builder.record.commit = text[:500]
    builder.log("deploy-users-9a-c3", b"ERROR " + raw, b"\xff\xfe\xfa invalid", previous=True)
    builder.log("operator-5c-x1", b'{"level":"error","msg":' + escaped + b"}")
    return builder


class Page(html.parser.HTMLParser):
    """Counts what a browser would see."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.tags = []
        self.handlers = []
        self.urls = []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.handlers += [name for name, _ in attrs if name.startswith("on") or name == "style"]
        self.urls += [value for name, value in attrs if name in ("src", "href")]


@pytest.mark.parametrize("text", HOSTILE, ids=[repr(text[:12]) for text in HOSTILE])
def test_no_format_breaks(tmp_path, text):
    """Sections, tables, page, XML and commands stay as they are, whatever the text."""
    run = hostile_run(tmp_path, text).write()
    diagnose(run)
    write_reports(run)
    markdown = run.report.read_text("utf-8")
    headings = [line for line in markdown.splitlines() if line.startswith("## ")]
    assert [line.split(".")[0] for line in headings] == [f"## {number}" for number in range(1, 11)]
    assert markdown.split("\n---\n")[0].count("\nverdict: ") == 1
    for name in ("REPORT.md", "step-summary.md", "pr-comment.md", "scenarios/users/report.md", "k8s/timeline.txt"):
        told = run.path(name).read_text("utf-8")
        assert not [line for line in re.split(r"[\n\r]", told) if line.lstrip().startswith("::")], name
        assert "##[" not in told or name == "k8s/timeline.txt"
        assert not set(told) & set("\x00\x07\x1b\r\x7f\u202e\u2066")
    page = Page()
    page.feed(run.path("REPORT.html").read_text("utf-8"))
    assert page.tags.count("script") == 2
    assert page.handlers == []
    assert not [url for url in page.urls if url and re.match(r"(?i)\s*(javascript|https?|file):", url)]
    ET.fromstring(run.path("junit.xml").read_bytes())  # noqa: S314 - written by us
    assert run.path("REPORT.html").stat().st_size < 1_500_000


@pytest.mark.parametrize("text", HOSTILE, ids=[repr(text[:12]) for text in HOSTILE])
def test_markdown_means_what_the_model_says(text):
    """Read by a Markdown parser, hostile text is code, never a heading, a row, a cell, an image or HTML."""
    rows = tuple((Code(text), "plain | text", Code(text)) for _ in range(3))
    blocks = (Para((Code(text), text)), Bullets((Code(text), [Code(text)])), Table(("a", "b", "c"), rows), Pre(text))
    report = Report(title=text, verdict="failed", front={}, sections=(Section(1, text, blocks),))
    tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse(render(report, front=False))
    kinds = [token.type for token in tokens]
    assert (kinds.count("heading_open"), kinds.count("tr_open"), kinds.count("td_open")) == (2, 4, 9)
    assert (kinds.count("fence"), kinds.count("html_block"), kinds.count("table_open")) == (1, 0, 1)
    inline = [child.type for token in tokens for child in token.children or []]
    assert not {"html_inline", "image", "link_open", "em_open", "strong_open"} & set(inline)


@given(st.text(max_size=200))
def test_a_code_span_is_one_span(text):
    """A Markdown parser reads back exactly the harmless line that went in."""
    told = span(text)
    line = harmless.one_line(text)
    tokens = MarkdownIt("commonmark").parseInline(told)[0].children
    if line:
        assert [token.type for token in tokens] == ["code_inline"]
        assert tokens[0].content == line
    else:
        assert told == "(empty)"


@given(st.text(alphabet=st.characters(codec=None), max_size=300))
def test_plain_text_is_printable_and_stays_so(text):
    """Nothing that steers a terminal or a reader is left, and cleaning twice changes nothing."""
    clean = harmless.plain(text)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", clean)
    assert harmless.plain(clean) == clean
    clean.encode("utf-8")


def test_one_line_says_how_much_it_cut():
    """A cut line ends in the number of characters that are gone."""
    assert harmless.one_line("abc  \n def") == "abc def"
    assert harmless.one_line("x" * 400, 10) == "xxxxxxxxx… (+391 characters)"
    assert harmless.lines("a\nb\nc", most=2) == ["a", "b", "… 1 more line after this"]
    assert harmless.lines("a\nb\nc", most=2, last=True) == ["… 1 more line before this", "b", "c"]


def test_a_long_report_sheds_its_last_sections_and_says_where_they_are():
    """What does not fit is left out from the end, each section with the files that hold it."""
    long = tuple(Para(f"line {number} of a long section") for number in range(400))
    sections = tuple(Section(number, f"part {number}", long, (f"file-{number}.json",)) for number in range(1, 6))
    told = render(Report("t", "failed", {}, sections), budget=30_000)
    assert len(told.encode()) <= 30_000
    assert "## 5. part 5\n\nLeft out to keep this file short: see `file-5.json`." in told
    assert "line 399 of a long section" in told.split("## 2.")[0]


def test_a_report_over_any_budget_is_cut():
    """Even one section that is too long by itself stays within the budget."""
    long = Section(1, "t", tuple(Para("word " * 200) for _ in range(200)))
    told = render(Report("t", "failed", {"verdict": "failed"}, (long,)), budget=5_000)
    assert len(told.encode()) <= 5_000
    assert told.rstrip().endswith("findings.json and k8s-e2e-results.json)")
