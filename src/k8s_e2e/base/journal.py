"""The kit's own log, ``logs/kit.jsonl``: one JSON object a line, from every process of a run."""

import contextlib
import logging
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from k8s_e2e.base import clock
from k8s_e2e.base.errors import KitError
from k8s_e2e.base.files import Lines
from k8s_e2e.base.redaction import Redactor

PROGRESS = "k8s_e2e.progress"  # the logger whose lines a terminal shows


class _JsonLines(logging.Handler):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self._lines = Lines(path)
        self.redactor = Redactor()

    def emit(self, record: logging.LogRecord) -> None:
        entry: dict[str, Any] = {
            "time": clock.rfc3339(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "msg": self.redactor.text(record.getMessage()),
            "pid": record.process,
        }
        if record.exc_info:
            entry["traceback"] = self.redactor.text("".join(traceback.format_exception(*record.exc_info)))
        # A full disk is told by whoever needs the disk: no line of a log may end what it only describes.
        with contextlib.suppress(OSError, KitError, ValueError):
            self._lines.append(entry)

    def close(self) -> None:
        self._lines.close()
        super().close()


@contextlib.contextmanager
def opened(path: Path) -> Iterator[None]:
    """Send everything the kit logs, at level info and above, to ``path`` while the block runs.

    What looks like a secret is replaced; `redact` with one that knows the run's Secrets replaces their values, too.
    """
    logger = logging.getLogger("k8s_e2e")
    handler = _JsonLines(path)
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(before)
        logger.removeHandler(handler)
        handler.close()


def redact(redactor: Redactor) -> None:
    """From here on let every line of the open log go through ``redactor``."""
    for handler in logging.getLogger("k8s_e2e").handlers:
        if isinstance(handler, _JsonLines):
            handler.redactor = redactor


def progress(text: str) -> None:
    """Say what is being done: a `Progress` that logs, which whoever runs the stage may show."""
    logging.getLogger(PROGRESS).info("%s", text)
