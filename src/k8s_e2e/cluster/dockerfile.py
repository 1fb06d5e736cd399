"""Where the images of one Dockerfile part: what they share is built once, what differs is a few settings each."""

import re
from collections.abc import Collection, Iterator

# Instructions that change an image's configuration only, so that they may stand on the finished rest.
_SETTINGS = frozenset({"ARG", "ENV", "LABEL", "EXPOSE", "USER", "ENTRYPOINT", "CMD", "STOPSIGNAL", "HEALTHCHECK"})


def split(text: str, arguments: Collection[str]) -> tuple[str, str] | None:
    """Return ``text`` up to the first ``ARG`` of a stage that declares one of ``arguments``, and the rest.

    None where the rest has more than settings in it, so that it cannot stand alone. An ``ARG`` before the first
    FROM does not count: it chooses the base image.
    """
    lines = text.splitlines(keepends=True)
    staged = False
    for number, word, line in _instructions(lines):
        staged = staged or word == "FROM"
        declared = re.match(r"\s*ARG\s+([A-Za-z_]\w*)", line, re.IGNORECASE)
        if staged and declared and declared[1] in arguments:
            rest = lines[number:]
            if any(word not in _SETTINGS for _, word, _ in _instructions(rest)):
                return None
            return "".join(lines[:number]), "".join(rest)
    return text, ""


def _instructions(lines: list[str]) -> Iterator[tuple[int, str, str]]:
    """Yield line number, instruction in capitals and first line of each instruction."""
    continued = False
    for number, line in enumerate(lines):
        words = line.split(maxsplit=1)
        if not words or words[0].startswith("#"):
            continue
        if not continued:
            yield number, words[0].upper(), line
        continued = line.rstrip().endswith("\\")
