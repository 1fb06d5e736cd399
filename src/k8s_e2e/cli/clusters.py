"""Commands about clusters and this machine."""

import sys

import click

from k8s_e2e.cli.shared import Shown, provider_option
from k8s_e2e.model.settings import load_settings

name_argument = click.argument("name", default="dev", metavar="[NAME, else dev]")


@click.command()
@name_argument
@provider_option
def up(name: str, provider: str) -> None:
    """Make a cluster and leave it running."""
    from k8s_e2e.cluster.providers import get_provider  # noqa: PLC0415 - start-up time of the other commands

    made = get_provider(provider, load_settings()).up(name, progress=Shown())
    click.echo(f"export KUBECONFIG={made.kubeconfig} PATH={made.kubectl.parent}:$PATH  # with a kubectl that fits")


@click.command()
@name_argument
@provider_option
def down(name: str, provider: str) -> None:
    """Remove a cluster and everything of it."""
    from k8s_e2e.cluster.providers import get_provider  # noqa: PLC0415 - see up()

    get_provider(provider, load_settings()).down(name, progress=Shown())


@click.command()
def doctor() -> None:
    """Say what this machine lacks, and the command that mends it."""
    from k8s_e2e.cluster import doctor as examination  # noqa: PLC0415 - see up()

    checks = examination.examine(load_settings())
    for check in checks:
        click.echo(f"{'ok  ' if check.ok else 'MISS'}  {check.name:<24} {check.found}")
        if not check.ok and check.fix:
            click.echo(f"      {'':<24} mend: {check.fix}")
    if not all(check.ok or not check.required for check in checks):
        sys.exit(3)


COMMANDS = (up, down, doctor)
