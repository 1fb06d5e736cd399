"""The content hash of an image build: equal inputs, equal key, nothing is built again."""

import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from k8s_e2e.base.errors import UsageError
from k8s_e2e.cluster.oci_archive import ARCHITECTURE

_RECIPE = "1"  # to be raised when the code that builds images changes what is in them
_ALWAYS_SENT = ("Dockerfile", ".dockerignore")


def build_key(context: Path, dockerfile: str, tags: Mapping[str, Mapping[str, str]], *, base: str) -> str:
    """Return 16 hex digits over everything that decides an image: Dockerfile, context, arguments, tags and base.

    ``base`` identifies builder and base image. Times and owners do not count; modes do where a file is executable.

    Raises:
        UsageError: there is no such context or Dockerfile.
    """
    if not (context / dockerfile).is_file():
        raise UsageError(f"there is no Dockerfile {context / dockerfile}", hint="correct [[images]] in k8s-e2e.toml")
    digest = hashlib.sha256(f"{_RECIPE} {ARCHITECTURE} {base}\0".encode())
    for tag, arguments in sorted(tags.items()):
        digest.update(f"{tag} {sorted(arguments.items())}\0".encode())
    for relative in context_files(context, dockerfile):
        path = context / relative
        digest.update(f"{relative}\0".encode())
        if path.is_symlink():
            digest.update(f"-> {path.readlink()}\0".encode())
        else:
            executable = bool(path.stat().st_mode & 0o111)
            digest.update(f"{executable} {path.stat().st_size}\0".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def context_files(context: Path, dockerfile: str = "Dockerfile") -> Iterator[str]:
    """Yield the files that a builder sends as build context, relative and sorted: all but what is ignored."""
    own = context / f"{dockerfile}.dockerignore"
    ignore = own if own.is_file() else context / ".dockerignore"
    ignored = Ignore(ignore.read_text("utf-8") if ignore.is_file() else "")
    always = {*_ALWAYS_SENT, dockerfile}
    for folder, names, files in os.walk(context):
        names.sort()
        base = Path(folder).relative_to(context)
        linked = [name for name in names if Path(folder, name).is_symlink()]
        for name in sorted([*files, *linked]):
            relative = str(base / name)
            if relative in always or not ignored(relative):
                yield relative


class Ignore:
    """A ``.dockerignore``: the last pattern that matches a path or a directory above it decides.

    Rules: https://docs.docker.com/build/concepts/context/#dockerignore-files (Go's filepath.Match, ``**``, ``!``).
    """

    def __init__(self, text: str) -> None:
        self._rules: list[tuple[bool, re.Pattern[str]]] = []
        for line in text.splitlines():
            pattern = line.strip()
            if pattern and not pattern.startswith("#"):
                kept = pattern.startswith("!")
                self._rules.append((kept, re.compile(_regex(pattern.removeprefix("!").strip().strip("/")))))

    def __call__(self, relative: str) -> bool:
        """Say whether the file ``relative`` is left out of the context."""
        ignored = False
        for kept, pattern in self._rules:
            if pattern.fullmatch(relative):
                ignored = not kept
        return ignored


def _regex(pattern: str) -> str:
    out, rest = "", pattern.removeprefix("./")
    while rest:
        if match := re.match(r"\*\*/?", rest):
            out, rest = out + "(?:.*/)?" if match[0] == "**/" else out + ".*", rest[match.end() :]
        elif match := re.match(r"\[\^?(?:\\.|[^]])+\]", rest):
            out, rest = out + match[0], rest[match.end() :]
        elif rest[0] == "\\" and len(rest) > 1:
            out, rest = out + re.escape(rest[1]), rest[2:]
        else:
            out, rest = out + {"*": "[^/]*", "?": "[^/]"}.get(rest[0], re.escape(rest[0])), rest[1:]
    return f"{out}(?:/.*)?"  # what is below a matched directory goes with it
