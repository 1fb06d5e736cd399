"""Commands about clusters and this machine."""

import sys

import click

from k8s_e2e.base.errors import EnvironmentFailure
from k8s_e2e.cli.shared import Shown, callable_here, profile_option, profile_path, provider_option
from k8s_e2e.cluster.provider import EXISTING
from k8s_e2e.model.profile import Profile, load_profile
from k8s_e2e.model.settings import load_settings

DEV = "dev"
name_argument = click.argument("name", default="", metavar=f"[NAME, else {DEV}]")


@click.command()
@name_argument
@provider_option
def up(name: str, provider: str) -> None:
    """Make a cluster and leave it running."""
    from k8s_e2e.cluster.providers import get_provider  # noqa: PLC0415 - start-up time of the other commands

    wanted = name if provider == EXISTING else name or DEV
    made = get_provider(provider, load_settings()).up(wanted, progress=Shown())
    click.echo(f"export KUBECONFIG={made.kubeconfig} PATH={made.kubectl.parent}:$PATH  # with a kubectl that fits")


@click.command()
@name_argument
@provider_option
@profile_option
def down(name: str, provider: str, profile: str | None) -> None:
    """Remove a cluster and everything of it.

    With --provider existing NAME is a context, and the cluster stays: what a run left in the profile's namespace goes.
    """
    from k8s_e2e.cluster.providers import get_provider  # noqa: PLC0415 - see up()

    if provider == EXISTING:
        _clear(name, load_profile(profile_path(profile)))
        return
    get_provider(provider, load_settings()).down(name or DEV, progress=Shown())


def _clear(name: str, profile: Profile) -> None:
    from k8s_e2e.cluster.existing import ExistingProvider  # noqa: PLC0415 - see up()
    from k8s_e2e.stages import shared_cluster  # noqa: PLC0415

    provider, shown = ExistingProvider(load_settings()), Shown()
    cluster = provider.attach(name)
    left = shared_cluster.clear(cluster, profile, "", shown)
    provider.down(cluster.name, progress=shown)
    if left:
        message = f"left in cluster {cluster.name}: {'; '.join(left)}"
        raise EnvironmentFailure(message)


@click.command()
def doctor() -> None:
    """Say what this machine lacks, and the command that mends it."""
    from k8s_e2e.cluster import doctor as examination  # noqa: PLC0415 - see up()

    checks = examination.examine(load_settings())
    for check in checks:
        click.echo(f"{'ok  ' if check.ok else 'MISS'}  {check.name:<24} {check.found}")
        if not check.ok and check.fix:
            click.echo(f"      {'':<24} mend: {callable_here(check.fix)}")
    if not all(check.ok or not check.required for check in checks):
        sys.exit(3)


COMMANDS = (up, down, doctor)
