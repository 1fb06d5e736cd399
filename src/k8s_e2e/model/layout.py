"""The artifact map: where each file of a run directory is."""

import errno
import os
from pathlib import Path

from k8s_e2e.base import files
from k8s_e2e.base.errors import UsageError

STAGES = ("deploy", "test", "collect", "trace-analysis", "report")
MARKER = "run.json"  # what makes a directory a run directory


class RunDir:
    """Paths of one run directory. Nothing is read or written here but by `claim`."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @classmethod
    def claim(cls, root: Path) -> "RunDir":
        """Take ``root`` for a run: made if absent, accepted if empty or already a run directory.

        Raises:
            UsageError: it holds something else, or cannot be made, read or written.
            DiskFull: no space left to make it.
        """
        try:
            with files.writing(root):
                cls._take(root)
        except OSError as error:
            message = f"--run-dir {root}: {error.strerror or error}"
            raise UsageError(message, hint="name a directory that can be written") from error
        return cls(root)

    @staticmethod
    def _take(root: Path) -> None:
        if root.exists() and not root.is_dir():
            message = f"--run-dir {root} is a file"
            raise UsageError(message, hint="name a directory that is new or empty")
        if root.is_dir() and any(root.iterdir()) and not (root / MARKER).exists():
            message = f"--run-dir {root} exists and is no run directory of ours (it has no {MARKER})"
            raise UsageError(message, hint="name a directory that is new or empty")
        root.mkdir(parents=True, exist_ok=True)
        if not os.access(root, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, "it cannot be written")

    @classmethod
    def existing(cls, root: Path) -> "RunDir":
        """Return the run directory at ``root``.

        Raises:
            UsageError: there is none.
        """
        if not (root / MARKER).is_file():
            message = f"{root} is no run directory (it has no {MARKER})"
            raise UsageError(message, hint="name a directory that `k8s-e2e run` wrote")
        return cls(root)

    def __fspath__(self) -> str:
        return str(self.root)

    def path(self, relative: str) -> Path:
        """Return the path of ``relative`` inside the run directory."""
        return self.root / relative

    @property
    def run_json(self) -> Path:  # noqa: D102 - the name says it, here and below
        return self.root / MARKER

    @property
    def manifest(self) -> Path:  # noqa: D102
        return self.root / "manifest.json"

    @property
    def derived(self) -> Path:  # noqa: D102
        return self.root / "derived.json"

    @property
    def results(self) -> Path:  # noqa: D102
        return self.root / "k8s-e2e-results.json"

    @property
    def requests(self) -> Path:  # noqa: D102
        return self.root / "requests.jsonl"

    @property
    def traces(self) -> Path:  # noqa: D102
        return self.root / "traces.json"

    @property
    def trace_analysis(self) -> Path:  # noqa: D102
        return self.root / "trace-analysis.json"

    @property
    def findings(self) -> Path:  # noqa: D102
        return self.root / "findings.json"

    @property
    def timeline(self) -> Path:  # noqa: D102
        return self.root / "timeline.json"

    @property
    def report(self) -> Path:  # noqa: D102
        return self.root / "REPORT.md"

    @property
    def k8s(self) -> Path:  # noqa: D102
        return self.root / "k8s"

    @property
    def resources(self) -> Path:  # noqa: D102
        return self.k8s / "resources.json"

    @property
    def actions(self) -> Path:  # noqa: D102
        return self.k8s / "operator-actions.json"

    @property
    def events(self) -> Path:  # noqa: D102
        return self.k8s / "events.jsonl"

    @property
    def history(self) -> Path:  # noqa: D102
        return self.k8s / "history.jsonl"

    @property
    def pod_logs(self) -> Path:  # noqa: D102
        return self.k8s / "logs"

    @property
    def screenshots(self) -> Path:  # noqa: D102
        return self.root / "screenshots"

    @property
    def logs(self) -> Path:  # noqa: D102
        return self.root / "logs"

    @property
    def kit_log(self) -> Path:  # noqa: D102
        return self.logs / "kit.jsonl"

    @property
    def notebooks(self) -> Path:  # noqa: D102
        return self.root / "notebooks"

    @property
    def scenarios(self) -> Path:  # noqa: D102
        return self.root / "scenarios"

    @property
    def exports(self) -> Path:  # noqa: D102
        return self.root / "exports"
