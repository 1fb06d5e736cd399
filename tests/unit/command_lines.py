"""Commands that files name, checked against the real command lines without running anything."""

import shlex
from collections.abc import Sequence

import click

from k8s_e2e.cli import cli
from k8s_e2e.model.layout import STAGES
from tests import wheel

TIERS = ("--quick", "--soak")


def problem(command: str, *, tasks: Sequence[str] = ()) -> str:
    """Say why ``command`` would be refused; nothing if it would not, or is no command of ours.

    ``tasks`` are the names that `task` knows.
    """
    words = shlex.split(command, comments=True)
    words = words[1:] if words[:1] == ["exec"] else words
    match words:
        case ["./e2e", "test", *rest]:
            return _unknown_tier(rest)
        case ["./e2e" | "k8s-e2e" | ".venv/bin/k8s-e2e", *rest]:
            return _kit(rest)
        case ["task" | ".venv/bin/task", *rest]:
            named = rest[: rest.index("--")] if "--" in rest else rest
            return "".join(f"no task {name!r}" for name in named if not name.startswith("-") and name not in tasks)
        case [_, "tests/wheel.py", *rest]:
            return _wheel(rest)
    return ""


def _kit(words: list[str]) -> str:
    if words in (["--version"], ["--help"], ["-h"]):
        return ""
    if not words or words[0] not in cli.commands:
        return f"no command {words[:1]}"
    try:
        parsed = cli.commands[words[0]].make_context(words[0], words[1:], parent=click.Context(cli))
    except click.exceptions.Exit:  # --help
        return ""
    except click.UsageError as error:
        return f"{words[0]}: {error.format_message()}"
    if words[0] == "stage" and parsed.params["name"] not in STAGES:
        return f"no stage {parsed.params['name']!r}"
    return ""


def _unknown_tier(words: list[str]) -> str:
    first = words[0] if words else ""
    return f"no tier {first}" if first.startswith("--") and first not in TIERS else ""


def _wheel(words: list[str]) -> str:
    try:
        wheel.parser().parse_known_args(words)
    except SystemExit:
        return f"tests/wheel.py does not take {words}"
    return ""
