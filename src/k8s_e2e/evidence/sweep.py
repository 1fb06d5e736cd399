"""Looking once more through what was written before every Secret's value was known.

A stage knows the Secrets that there were when it began, the recorder those that it has seen until then: a value may
have been written a moment before it was known to be one.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import msgspec

from k8s_e2e.base import files
from k8s_e2e.evidence import manifest
from k8s_e2e.evidence.secrets import Cleaner
from k8s_e2e.model.layout import RunDir

_PICTURES = {".png"}
_BLOCK = 1 << 20


def sweep(run: RunDir, cleaner: Cleaner) -> int:
    """Replace in the observed files of ``run`` the values that ``cleaner`` knows; returns how many files held one.

    In requests and in what image builds said, which are written as they come, what looks like a secret is replaced,
    too. The kit's own log is being written: there a value becomes as many stars.
    """
    changed = 0
    notebooks = [path for name in ("deploy", "test") for path in run.notebooks.glob(f"{name}.*")]
    for path in sorted({*manifest.observed(run), *notebooks, run.run_json}):
        if path.suffix in _PICTURES or not path.is_file():
            continue
        if path == run.kit_log:
            changed += _starred(path, cleaner)
        elif path == run.requests or path.match("logs/build-*.txt"):
            changed += _rewritten(path, cleaner, cleaner.redactor.text)
        elif _holds(path, cleaner):
            changed += _rewritten(path, cleaner, cleaner.redactor.known)
    return changed


def _holds(path: Path, cleaner: Cleaner) -> bool:
    with path.open("rb") as stream:
        return any(cleaner.redactor.holds_known(block) for block in _blocks(stream))


def _rewritten(path: Path, cleaner: Cleaner, redact: Callable[[str], str]) -> bool:
    temporary = path.with_name(f".{path.name}.swept")
    changed = False
    try:
        with files.writing(path), path.open("rb") as source, temporary.open("wb") as out:
            for block in [source.read()] if path.suffix in (".json", ".ipynb") else _blocks(source):
                text = block.decode("utf-8", "surrogateescape")
                if path.suffix == ".jsonl":
                    clean = "\n".join(_json(line, cleaner, redact) for line in text.split("\n"))
                elif path.suffix in (".json", ".ipynb"):
                    clean = _json(text, cleaner, redact)
                else:
                    clean = redact(text)
                changed = changed or clean != text
                out.write(clean.encode("utf-8", "surrogateescape"))
        if changed:
            temporary.chmod(path.stat().st_mode & 0o777)
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return changed


def _json(text: str, cleaner: Cleaner, redact: Callable[[str], str]) -> str:
    with suppress(msgspec.DecodeError, UnicodeEncodeError):
        return cleaner.json_text(text, redact)
    return redact(text)  # cut in the middle of a line


def _starred(path: Path, cleaner: Cleaner) -> bool:
    data = path.read_bytes()
    starred = cleaner.redactor.starred(data)
    if starred == data:
        return False
    with files.writing(path), path.open("r+b", buffering=0) as stream:
        os.pwrite(stream.fileno(), starred, 0)  # what is appended meanwhile stands behind it
    return True


def _blocks(stream: BinaryIO) -> Iterator[bytes]:
    """Yield a file in pieces of whole lines."""
    pieces: list[bytes] = []
    while block := stream.read(_BLOCK):
        head, newline, rest = block.rpartition(b"\n")
        if newline:
            yield b"".join([*pieces, head, newline])
            pieces = [rest]
        else:
            pieces.append(rest)
    yield b"".join(pieces)
