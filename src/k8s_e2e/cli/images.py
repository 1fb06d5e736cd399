"""The command that makes the platform's images before a run, and puts them into a cluster."""

from collections.abc import Sequence
from pathlib import Path

import click

from k8s_e2e.base.errors import UsageError
from k8s_e2e.cli.shared import Shown, profile_option, profile_path, provider_option
from k8s_e2e.cluster.oci import BuiltImage
from k8s_e2e.model.profile import load_profile
from k8s_e2e.model.run import ImageRecord
from k8s_e2e.model.settings import load_settings


@click.command()
@provider_option
@profile_option
@click.option("--cluster", default="", help="Load them into this cluster, and verify that every node has them.")
@click.option(
    "--logs", type=click.Path(path_type=Path), help="Where each build's output goes (default: in the cache directory)."
)
def images(provider: str, profile: str | None, cluster: str, logs: Path | None) -> None:
    """Build the profile's images, one at a time; a later run finds them unchanged.

    With --cluster they are loaded, too, beside those that take the place of third parties' images there.
    """
    from k8s_e2e.cluster import images as made  # noqa: PLC0415 - start-up time of the other commands
    from k8s_e2e.cluster.providers import get_provider  # noqa: PLC0415
    from k8s_e2e.platform import manifests  # noqa: PLC0415

    settings, shown = load_settings(), Shown()
    wanted = load_profile(profile_path(profile))
    logs = logs or settings.cache_dir / "build-logs"
    if not cluster:
        _print(made.build_images(wanted, settings, logs=logs, progress=shown))
        return
    target = get_provider(provider, settings)
    if not target.loads:
        message = f"--cluster {cluster}: provider {target.name} loads no images, its nodes pull them"
        raise UsageError(message, hint="leave --cluster out, and push what was built")
    kubectl = target.attach(cluster).kubectl  # a cluster that does not answer is told before anything is built
    built = made.build_images(wanted, settings, logs=logs, progress=shown)
    if not target.pulls:
        named = manifests.mentioned(manifests.render(wanted, kubectl, images={}))
        built += made.third_party_images(named, settings, shown).values()
    _print(made.load_and_verify(target, cluster, built, shown))


def _print(rows: Sequence[BuiltImage | ImageRecord]) -> None:
    width = max((len(row.reference) for row in rows), default=0)
    click.echo(f"{'reference':<{width}}  {'digest':<71}  {'MB':>6}  source")
    for row in rows:
        click.echo(f"{row.reference:<{width}}  {row.digest:<71}  {row.bytes / 1e6:6.1f}  {row.source}")


COMMANDS = (images,)
