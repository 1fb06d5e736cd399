"""The seal over everything observed: manifest.json, and checking it.

Sealed is what deploy, test, collect and the recorder wrote. What is made from that later (reports, analyses) is not,
nor is what goes on being written: run.json and the notebooks of the later stages. The kit's own log goes on, too, but
only ever grows: of it the part that was there is sealed.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import msgspec

from k8s_e2e.base import clock, files
from k8s_e2e.evidence.caps import CUT
from k8s_e2e.model import io
from k8s_e2e.model.evidence import Manifest, Part, SealedFile
from k8s_e2e.model.layout import RunDir

GROWING = ("logs/kit.jsonl",)
_FILES = ("k8s-e2e-results.json", "requests.jsonl", "traces.json")
_TREES = ("k8s", "logs", "screenshots")
_NOTEBOOKS = ("deploy.ipynb", "test.ipynb")
_DERIVED = {"k8s/timeline.txt"}
_REDACTED = re.compile(rb"\[redacted:([^\]\n]*?):[0-9a-f]{6,12}\]")
_LINES = (".jsonl", ".txt", ".yaml")
_BLOCK = 1 << 20


class _Counts(msgspec.Struct):
    """The part of a JSON file that says how many rows it has."""

    items: list[msgspec.Raw] | None = None
    actions: list[msgspec.Raw] | None = None
    data: list[msgspec.Raw] | None = None
    scenarios: list[msgspec.Raw] | None = None


def seal(run: RunDir, parts: list[Part], run_id: str = "") -> Manifest:
    """Write manifest.json over the observed files of ``run``: hash, size, rows, cuts and redactions of each."""
    manifest = Manifest(run_id=run_id, sealed=clock.now(), parts=parts)
    total: Counter[str] = Counter()
    for path in observed(run):
        entry, redacted = _examine(run, path)
        manifest.files.append(entry)
        total += redacted
    manifest.redactions = dict(sorted(total.items()))
    files.write_json(run.manifest, manifest)
    return manifest


def verify(run: RunDir) -> list[str]:
    """Return what differs from the seal, one sentence a file; empty if nothing does.

    Raises:
        UsageError: there is no manifest, or it is of a newer version.
    """
    manifest = io.load(run.manifest, Manifest)
    found = []
    sealed = {entry.path: entry for entry in manifest.files}
    for name, entry in sealed.items():
        path = run.path(name)
        if not path.is_file():
            found.append(f"{name} is gone")
            continue
        size = path.stat().st_size
        limit = entry.bytes if name in GROWING else size
        if size < entry.bytes or (name not in GROWING and size != entry.bytes):
            found.append(f"{name} has {size} bytes, {entry.bytes} were sealed")
        elif _hash(path, limit) != entry.sha256:
            found.append(f"{name} has been changed: its sha256 is not the sealed one")
    found += [
        f"{name} was not there when the run was sealed"
        for name in (_name(run, path) for path in observed(run))
        if name not in sealed and not name.startswith("notebooks/")
    ]
    return found


def observed(run: RunDir) -> list[Path]:
    """Return the files that a seal covers and that are there, by path."""
    return sorted(path for path in _candidates(run) if path.is_file() and _name(run, path) not in _DERIVED)


def _candidates(run: RunDir) -> Iterator[Path]:
    yield from (run.path(name) for name in _FILES)
    yield from (run.notebooks / name for name in _NOTEBOOKS)
    for tree in _TREES:
        yield from (path for path in run.path(tree).rglob("*") if not path.name.startswith("."))


def _examine(run: RunDir, path: Path) -> tuple[SealedFile, Counter[str]]:
    digest = hashlib.sha256()
    size = lines = 0
    redacted: Counter[str] = Counter()
    cuts: list[int] = []
    rest = b""
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
            size += len(block)
            lines += block.count(b"\n")
            whole, newline, rest = (rest + block).rpartition(b"\n")
            _note(whole + newline, redacted, cuts)
    _note(rest, redacted, cuts)
    entry = SealedFile(
        path=_name(run, path),
        sha256=digest.hexdigest(),
        bytes=size,
        rows=lines if path.suffix in _LINES else _items(path),
        truncated=f"{sum(cuts)} bytes cut in {len(cuts)} places" if cuts else "",
        redactions=redacted.total(),
    )
    return entry, redacted


def _note(data: bytes, redacted: Counter[str], cuts: list[int]) -> None:
    if b"[redacted:" in data:
        redacted.update(match[1].decode("utf-8", "replace") for match in _REDACTED.finditer(data))
    if b"[k8s-e2e: " in data:
        cuts += [int(match[1]) for match in CUT.finditer(data)]


def _items(path: Path) -> int | None:
    if path.suffix != ".json":
        return None
    try:
        counts = msgspec.json.decode(path.read_bytes(), type=_Counts)
    except msgspec.DecodeError:
        return None
    lists = (counts.items, counts.actions, counts.data, counts.scenarios)
    return next((len(found) for found in lists if found is not None), None)


def _hash(path: Path, limit: int) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while limit > 0 and (block := stream.read(min(_BLOCK, limit))):
            digest.update(block)
            limit -= len(block)
    return digest.hexdigest()


def _name(run: RunDir, path: Path) -> str:
    return path.relative_to(run.root).as_posix()
