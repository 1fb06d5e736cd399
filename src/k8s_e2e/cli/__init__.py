"""The command line: the only place that prints, and the only one that turns an error into an exit code."""

import sys

import click

from k8s_e2e.base.errors import Interrupted, KitError
from k8s_e2e.cli import clusters, images, permissions, publishing, reading, running
from k8s_e2e.cli.shared import PROGRAM, callable_here, harmless

__all__ = ["cli", "main"]


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="k8s-e2e")
@click.option("--debug", is_flag=True, help="Show the traceback of an error (anywhere on the line).")
def cli(*, debug: bool) -> None:
    """Stand a platform up on a real cluster, test it, and say why a run failed."""


for command in (
    *running.COMMANDS,
    *clusters.COMMANDS,
    *permissions.COMMANDS,
    *images.COMMANDS,
    *reading.COMMANDS,
    *publishing.COMMANDS,
):
    cli.add_command(command)


def main() -> None:
    """Run the command line and exit: every error is one clear line, its traceback shown only with --debug."""
    words = [word for word in sys.argv[1:] if word != "--debug"]
    debug = len(words) < len(sys.argv) - 1
    try:
        cli.main(words, prog_name=PROGRAM, standalone_mode=False)
    except click.exceptions.Abort:
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except Interrupted as stop:
        click.echo(f"k8s-e2e: {stop}", err=True)
        sys.exit(stop.exit_code)
    except Exception as error:
        if debug:
            raise
        code, line, hint = _told(error)
        click.echo(f"k8s-e2e: {harmless(line)}" + (f"\n  {harmless(callable_here(hint))}" if hint else ""), err=True)
        sys.exit(code)


def _told(error: Exception) -> tuple[int, str, str]:
    """Return exit code, message and hint of an error."""
    if isinstance(error, KitError):
        return error.exit_code, error.message, error.hint
    if isinstance(error, OSError):
        return 3, f"{error.strerror or error}" + (f": {error.filename}" if error.filename else ""), ""
    return 1, f"internal error: {type(error).__name__}: {error}", "--debug shows where; please report it"
