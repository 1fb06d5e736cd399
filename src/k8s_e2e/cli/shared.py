"""What the commands share: how progress is shown, which profile is meant, the options that several of them take."""

import os
import time
from pathlib import Path

import click
from rich.console import Console

from k8s_e2e.base.data import data_dir
from k8s_e2e.base.errors import UsageError
from k8s_e2e.base.text import defused, plain
from k8s_e2e.cluster.provider import NAMES

PROGRAM = os.environ.get("K8S_E2E_PROGRAM", "k8s-e2e")  # how the launcher was called: `k8s-e2e` may not be on PATH

profile_option = click.option("--profile", help="The project profile (default: the nearest k8s-e2e.toml).")
provider_option = click.option("--provider", type=click.Choice(NAMES), default="auto", show_default=True)


def callable_here(text: str) -> str:
    """Return ``text`` with the commands it recommends as this shell can run them."""
    return text.replace("`k8s-e2e ", f"`{PROGRAM} ")


def harmless(text: str) -> str:
    """Return ``text``, which may come from a cluster, so that it neither steers a terminal nor begins a line of ours.

    Lines after the first stand behind a bar: none of them can be taken for another message. What GitHub would take for
    a command, at the start of a line or anywhere in it, is broken.
    """
    return defused(plain(text)).rstrip("\n").replace("\n", f"\n{'':9} | ")


class Shown:
    """Progress for people: one plain line a step, with the seconds since the start."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, highlight=False, soft_wrap=True)
        self.began = time.monotonic()

    def __call__(self, text: str) -> None:
        """Show one line."""
        elapsed = time.monotonic() - self.began
        self.console.print(f"{elapsed:7.1f} s  {harmless(callable_here(text))}", markup=False)


def profile_path(path: str | None) -> Path:
    """Return the profile that is meant: the one named, else the nearest in this directory or above it.

    Raises:
        UsageError: there is none.
    """
    if path:
        return Path(path)
    here = Path.cwd()
    for directory in [here, *here.parents]:
        if (directory / "k8s-e2e.toml").exists():
            return directory / "k8s-e2e.toml"
    message = f"there is no k8s-e2e.toml in {here} or above it"
    shipped = data_dir() / "k8s-e2e.toml"
    raise UsageError(message, hint=f"name one by --profile FILE; the one that is shipped is {shipped}")
