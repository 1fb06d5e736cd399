"""Notebooks as a way to run a stage: papermill in, executed notebook, Markdown and HTML out."""

from k8s_e2e.notebooks.runner import run

__all__ = ["run"]
