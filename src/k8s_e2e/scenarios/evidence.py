"""Which lines of `requests.jsonl` belong to a step."""

from pathlib import Path

import msgspec


class RequestLines:
    """Reads the file on, step by step: each line is read once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._line = 0
        self._pointers: dict[str, list[str]] = {}

    def of(self, step_id: str) -> list[str]:
        """Return pointers (``requests.jsonl#L12``) to the requests of one step, so far."""
        if self._path.exists():
            with self._path.open("rb") as stream:
                stream.seek(self._offset)
                for line in stream:
                    if not line.endswith(b"\n"):
                        break
                    self._offset += len(line)
                    self._line += 1
                    self._note(line)
        return self._pointers.get(step_id, [])

    def _note(self, line: bytes) -> None:
        try:
            step = msgspec.json.decode(line, type=_Line).step
        except msgspec.DecodeError:
            return
        self._pointers.setdefault(step, []).append(f"{self._path.name}#L{self._line}")


class _Line(msgspec.Struct):
    step: str = ""
