"""Text of a cluster, shown by the command line and in notebooks: read by people, never obeyed by what shows it."""

import io
import re

import click
import nbformat
import pytest
from markdown_it import MarkdownIt
from rich.console import Console

from k8s_e2e import cli
from k8s_e2e.base.errors import EnvironmentFailure
from k8s_e2e.base.text import plain
from k8s_e2e.cli.shared import Shown, harmless
from k8s_e2e.model.run import StageOutcome
from k8s_e2e.notebooks.export import export
from k8s_e2e.stages.table import Table

HOSTILE = (
    "\x1b]0;owned\x07\x1b[2Jpod <img src=x> ![](http://x/y) www.x.org `| **b** \u202e"
    " ##[error]no #\x1b[m#[group]no\n::error::no\n  1.0 s  stage test passed"
)


def steers(text):
    """Return what in a text would act on a terminal or on the direction of reading."""
    return [one for one in ("\x1b", "\x07", "\u202e", "\r") if one in text]


def test_progress_does_not_steer_the_terminal():
    """Terminal sequences are gone, and no line but our own looks like one of ours."""
    shown, written = Shown(), io.StringIO()
    shown.console = Console(file=written, force_terminal=True, highlight=False, soft_wrap=True)
    shown(f"waiting: {HOSTILE}")
    first, *others = written.getvalue().splitlines()
    assert "waiting: pod <img src=x>" in first
    assert "##[" not in written.getvalue()
    assert steers(written.getvalue()) == []
    assert [line.split("|")[0].strip() for line in others] == ["", ""]


def test_an_error_does_not_steer_the_terminal(monkeypatch, capsys):
    """What an error tells of a cluster is as harmless as progress, its hint included."""

    @click.command()
    def fail():
        raise EnvironmentFailure(HOSTILE, hint=HOSTILE)

    monkeypatch.setattr(cli, "cli", fail)
    monkeypatch.setattr("sys.argv", ["k8s-e2e"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr().err
    assert ended.value.code == 3
    assert steers(said) == []
    assert "\n::" not in said
    assert "##[" not in said


@pytest.mark.parametrize("text", ["::error::no", " ::error::no", "x ##[error]no", "#\x1b[m#[error]no", "###[error]no"])
def test_no_workflow_command_is_left(text):
    """Wherever the text begins a line of a job's log, GitHub takes none of it for a command; people read it still."""
    shown = harmless(text)
    assert not shown.lstrip().startswith("::")
    assert "##[" not in shown
    assert shown.replace("\u2060", "") == plain(text)


def rendered(text):
    """Return the HTML of a Markdown text; what stands in code there, where not even an address is live, left out."""
    return re.sub(r"<code.*?</code>", "<code/>", MarkdownIt("commonmark").enable("table").render(text), flags=re.DOTALL)


def test_a_table_shows_cells_and_renders_none():
    """No picture, link, markup, or column comes out of a cell; numbers and words stand as they are."""
    table = Table(["step", "seconds", "message"], [["a/01", 1.5, HOSTILE], [HOSTILE, None, "passed"]], title="Steps")
    text = table._repr_markdown_()
    page = rendered(text)
    assert steers(text) == []
    assert not [tag for tag in ("<img", "<a ", "<strong>b", "www", "::") if tag in page]
    assert page.count("<td>") == 6
    assert "pod <img src=x> ![](http://x/y) www.x.org `\\| **b**" in text
    assert "| `a/01` | 1.50 |" in text
    assert "passed |" in text
    assert steers(table._repr_html_()) == []


def test_a_stages_error_is_shown_and_not_rendered(tmp_path):
    """The Markdown of a stage that failed shows error and hint as they are."""
    notebook = tmp_path / "collect.ipynb"
    nbformat.write(nbformat.v4.new_notebook(), notebook)
    outcome = StageOutcome(
        name="collect", status="failed", started="", duration_s=1.0, error=HOSTILE + "\n````\n# gone", hint=HOSTILE
    )
    export(notebook, outcome)
    text = notebook.with_suffix(".md").read_text("utf-8")
    assert steers(text) == []
    page = rendered(text)
    assert "<strong>Stage collect: failed</strong>" in page
    assert not [tag for tag in ("<img", "<a ", "<h1>", "<strong>b", "www", "::") if tag in page]
