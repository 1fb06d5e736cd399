"""Writing one container's log files: its present run, and the runs before it."""

import shutil
from collections.abc import Iterator
from pathlib import Path

from k8s_e2e.base.redaction import Redactor
from k8s_e2e.evidence.caps import CappedFile
from k8s_e2e.evidence.log_lines import Run, header, parse_header, split

Lines = list[tuple[str, str]]  # time, text
_LAST_BYTES = 1 << 17


class ContainerLog:
    """The files of one container of one pod name (see `log_lines`); goes on where an earlier recorder stopped."""

    def __init__(self, directory: Path, container: str, redactor: Redactor) -> None:
        self.path = directory / f"{container}.txt"
        self.previous = directory / f"{container}.previous.txt"
        self._redactor = redactor
        self._file: CappedFile | None = None
        self._run, self._resumed_at, self._resumed_lines = _state(self.path)
        self._resumed = self._run  # what an earlier recorder wrote last; the runs before that it wrote whole

    @property
    def last(self) -> Run | None:
        """The run that the present file holds, if there is one."""
        return self._run

    def begin(self, run: Run) -> None:
        """Start a new run; what was written of another one moves to the previous file."""
        if run == self._run or self._written_before(run):
            return
        self.close()
        if self.path.exists():
            with self.previous.open("ab") as out, self.path.open("rb") as earlier:
                shutil.copyfileobj(earlier, out)
            self.path.unlink()
        self._run, self._resumed_at = run, ""
        self._append((header(run) + "\n").encode())

    def miss(self, run: Run) -> None:
        """Say that nobody could read ``run``."""
        if self._written_before(run):
            return
        self.previous.parent.mkdir(parents=True, exist_ok=True)
        with self.previous.open("ab") as out:
            out.write((header(run._replace(missed=True)) + "\n").encode())

    def write(self, run: Run, lines: Lines) -> None:
        """Append lines of ``run``, redacted; those of an earlier run than the present one go to the previous file."""
        if self._written_before(run):
            return
        if self._resumed_at and run == self._run:
            lines = list(self._unwritten(lines))
        if not lines:
            return
        text = "".join(f"{time} {words}\n" if time else f"{words}\n" for time, words in lines)
        data = self._redactor.text(text).encode("utf-8", "replace")
        if self._run is not None and run != self._run:
            with self.previous.open("ab") as out:
                out.write(data)
            return
        self._append(data)

    def close(self) -> None:
        """Close the present file."""
        if self._file:
            self._file.close()
            self._file = None

    def _unwritten(self, lines: Lines) -> Iterator[tuple[str, str]]:
        """Yield the lines of a whole log (in pieces) that an earlier recorder has not written."""
        for line in lines:
            if line[0] == self._resumed_at and self._resumed_lines:  # a burst shares a microsecond
                self._resumed_lines -= 1
            elif line[0] >= self._resumed_at:
                yield line

    def _written_before(self, run: Run) -> bool:
        return self._resumed is not None and run.uid == self._resumed.uid and run.number < self._resumed.number

    def _append(self, data: bytes) -> None:
        if self._file is None:
            self._file = CappedFile(self.path)
        self._file.write(data)


def _state(path: Path) -> tuple[Run | None, str, int]:
    """Return which run an existing file holds, the time of its last line, and how many lines have that time."""
    if not path.exists():
        return None, "", 0
    with path.open("rb") as stream:
        run = parse_header(stream.readline().decode("utf-8", "replace").rstrip("\n"))
        stream.seek(max(0, path.stat().st_size - _LAST_BYTES))
        times = [split(line.decode("utf-8", "replace"))[0] for line in stream.read().split(b"\n")]
    last = max(times, default="")
    return run, last, times.count(last)
