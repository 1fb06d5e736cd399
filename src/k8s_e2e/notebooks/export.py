"""Executed notebooks as Markdown (for agents: no code, errors first) and HTML (for people: works offline)."""

from pathlib import Path
from typing import Any

import nbformat

from k8s_e2e.base import files
from k8s_e2e.base.text import plain
from k8s_e2e.model.run import StageOutcome

TEMPLATES = Path(__file__).parent / "templates"
STREAM_LIMIT = 20_000  # characters of one output that go into the Markdown


def export(notebook: Path, outcome: StageOutcome) -> None:
    """Write ``.md`` and ``.html`` beside an executed notebook; pictures go into the HTML and a folder for Markdown.

    A notebook that was never saved (the kernel did not start) is left out.
    """
    if not notebook.exists():
        return
    document = nbformat.read(str(notebook), as_version=4)
    _markdown(document, notebook, outcome)
    _html(document, notebook)


def _markdown(document: nbformat.NotebookNode, notebook: Path, outcome: StageOutcome) -> None:
    from nbconvert import MarkdownExporter  # noqa: PLC0415 - 0.3 s, only needed once a stage ended

    exporter = MarkdownExporter(extra_template_basedirs=[str(TEMPLATES)], template_name="agent")
    exporter.register_filter("plain", plain)
    for cell in document.cells:
        _prefer_markdown(cell)
    folder = f"{notebook.stem}_files"
    body, resources = exporter.from_notebook_node(
        document, {"output_files_dir": folder, "unique_key": notebook.stem, "stage": outcome}
    )
    for name, data in resources.get("outputs", {}).items():
        files.write(notebook.parent / name, data)
    files.write(notebook.with_suffix(".md"), body)


def _prefer_markdown(cell: Any) -> None:
    for output in cell.get("outputs", []):
        if "text/markdown" in output.get("data", {}):
            output["data"].pop("text/html", None)
        if isinstance(output.get("text"), str) and len(output["text"]) > STREAM_LIMIT:
            output["text"] = output["text"][:STREAM_LIMIT] + "\n[cut here: the whole text is in the notebook]\n"


def _html(document: nbformat.NotebookNode, notebook: Path) -> None:
    from nbconvert import HTMLExporter  # noqa: PLC0415 - see _markdown

    exporter = HTMLExporter(embed_images=True, mathjax_url="", require_js_url="", jquery_url="", exclude_input=False)
    body, _ = exporter.from_notebook_node(document, {"metadata": {"name": notebook.stem}})
    files.write(notebook.with_suffix(".html"), body)
