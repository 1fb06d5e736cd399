"""The notebooks in git: py:percent files, read into notebook documents."""

from pathlib import Path

import jupytext
import nbformat

from k8s_e2e.base.data import data_dir
from k8s_e2e.base.errors import UsageError


def path_of(stage: str) -> Path:
    """Return the py:percent file of ``stage``."""
    return data_dir() / "notebooks" / f"{stage.replace('-', '_')}.py"


def load(stage: str) -> nbformat.NotebookNode:
    """Read the notebook of ``stage``.

    Raises:
        UsageError: there is none.
    """
    path = path_of(stage)
    if not path.exists():
        message = f"no notebook for stage {stage!r} at {path}"
        raise UsageError(message)
    notebook: nbformat.NotebookNode = jupytext.read(path, fmt="py:percent")
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook.metadata["title"] = stage
    return notebook
