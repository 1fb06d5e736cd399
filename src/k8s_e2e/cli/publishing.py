"""The command that shows a run on GitHub."""

import os
from pathlib import Path

import click

from k8s_e2e.base.text import defused
from k8s_e2e.cli.shared import Shown, callable_here
from k8s_e2e.model.layout import RunDir
from k8s_e2e.model.settings import load_settings


@click.command()
@click.argument("run_dir", type=click.Path(path_type=Path))
@click.option("--name", default="", help="Tells this job's comment from those of other jobs (a matrix, a workflow).")
@click.option("--artifact", default="", help="The artifact that holds the run directory; it is named in what is sent.")
@click.option("--pull-request", type=click.IntRange(1), help="Comment on this one (default: that of the event).")
@click.option("--dry-run", is_flag=True, help="Print what would be sent, and send nothing.")
def publish(run_dir: Path, name: str, artifact: str, pull_request: int | None, *, dry_run: bool) -> None:
    """Show a finished run on GitHub: step summary, annotations, one comment on the pull request.

    Meant for a step of a workflow, which is where GitHub says what to publish to; anywhere else each says why it was
    skipped. The exit code tells nothing of the run, and of GitHub neither: it is 0 unless the command is used wrongly.
    """
    from k8s_e2e.report.github import publish as publishing  # noqa: PLC0415 - start-up time of the other commands

    request = publishing.Request(name=name, artifact=artifact, pull_request=pull_request or 0, dry_run=dry_run)
    done = publishing.publish(
        RunDir.existing(run_dir),
        request,
        os.environ,
        settings=load_settings(),
        progress=Shown(),
    )
    for command in done.commands:
        click.echo(command)
    for channel in done.channels:
        click.echo(callable_here(publishing.told(channel)))
        for line in channel.text.splitlines():
            click.echo(f"    {defused(line)}")


COMMANDS = (publish,)
