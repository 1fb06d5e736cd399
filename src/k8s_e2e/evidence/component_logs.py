"""``logs/cluster-<component>.txt``: what the cluster's own components said, head and tail, redacted."""

from pathlib import Path

from k8s_e2e.base import files
from k8s_e2e.base.redaction import Redactor
from k8s_e2e.evidence.caps import cut_line

HEAD_BYTES = 256 << 10
TAIL_BYTES = 1 << 20


def write(sources: dict[str, Path], out: Path, redactor: Redactor) -> int:
    """Copy each component's log file into ``out``. Returns how many there were.

    Raises:
        OSError: one is unreadable; the others are written all the same.
    """
    failed: OSError | None = None
    for component, source in sorted(sources.items()):
        try:
            text = _ends(source).decode("utf-8", "replace")
        except OSError as error:
            failed = error
            continue
        files.write(out / f"cluster-{component}.txt", redactor.text(text))
    if failed:
        raise failed
    return len(sources)


def _ends(source: Path) -> bytes:
    size = source.stat().st_size
    with source.open("rb") as stream:
        if size <= HEAD_BYTES + TAIL_BYTES:
            return stream.read()
        head = stream.read(HEAD_BYTES)
        head = head[: head.rfind(b"\n") + 1]
        stream.seek(size - TAIL_BYTES)
        tail = stream.read()
        tail = tail[tail.find(b"\n") + 1 :]
        return head + cut_line(size - len(head) - len(tail)) + tail
