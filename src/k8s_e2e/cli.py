"""The command line: the only place that prints, and the only one that turns an error into an exit code."""

import os
import sys
import time
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from k8s_e2e.base import clock
from k8s_e2e.base.data import data_dir
from k8s_e2e.base.errors import KitError, UsageError
from k8s_e2e.model import io
from k8s_e2e.model.layout import STAGES, RunDir
from k8s_e2e.model.profile import load_profile
from k8s_e2e.model.run import RunRecord
from k8s_e2e.model.settings import load_settings

PROVIDERS = ("auto", "local")


_PROGRAM = os.environ.get("K8S_E2E_PROGRAM", "k8s-e2e")  # how the launcher was called: `k8s-e2e` may not be on PATH


def _callable(text: str) -> str:
    """Return ``text`` with the commands it recommends as this shell can run them."""
    return text.replace("`k8s-e2e ", f"`{_PROGRAM} ")


class _Shown:
    """Progress for people: a spinner with the elapsed time on a terminal, one plain line a step elsewhere."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, highlight=False, soft_wrap=True)
        self.began = time.monotonic()

    def __call__(self, text: str) -> None:
        elapsed = time.monotonic() - self.began
        self.console.print(f"{elapsed:7.1f} s  {_callable(text)}", markup=False)


def _profile(path: str | None) -> Path:
    if path:
        return Path(path)
    here = Path.cwd()
    for directory in [here, *here.parents]:
        if (directory / "k8s-e2e.toml").exists():
            return directory / "k8s-e2e.toml"
    return data_dir() / "k8s-e2e.toml"


def _runs(profile: Path) -> Path:
    writable = profile.parent if (profile.parent / ".git").exists() else Path.cwd()
    return writable / "reports" / "runs"


profile_option = click.option("--profile", help="The project profile (default: the nearest k8s-e2e.toml).")
provider_option = click.option("--provider", type=click.Choice(PROVIDERS), default="auto", show_default=True)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="k8s-e2e")
@click.option("--debug", is_flag=True, help="Show the traceback of an error (anywhere on the line).")
def cli(*, debug: bool) -> None:
    """Stand a platform up on a real cluster, test it, and say why a run failed."""


@cli.command("run")
@provider_option
@profile_option
@click.option("--cluster", default="", help="Use this cluster, which exists already, and leave it there.")
@click.option("--scenarios", multiple=True, metavar="NAME|GLOB|PATH", help="Which scenarios (repeatable).")
@click.option("--run-dir", type=click.Path(path_type=Path), help="Where the run is kept (default: reports/runs/...).")
@click.option("--keep", is_flag=True, help="Leave the cluster running.")
@click.option("--keep-on-failure", is_flag=True, help="Leave the cluster running if something failed.")
@click.option("--from", "first", default="deploy", metavar="STAGE", help=f"Begin at: {', '.join(STAGES)}.")
def run_command(
    provider: str,
    profile: str | None,
    cluster: str,
    scenarios: tuple[str, ...],
    run_dir: Path | None,
    keep: bool,
    keep_on_failure: bool,
    first: str,
) -> None:
    """Cluster, platform, scenarios, evidence, report: the whole job."""
    from k8s_e2e import pipeline  # noqa: PLC0415 - brings papermill's world; `--help` does without

    if first != "deploy" and run_dir is None:
        message = f"--from {first} needs --run-dir"
        raise UsageError(message, hint="name the run directory to go on with")
    path = _profile(profile)
    target = run_dir or _runs(path) / clock.now()[:19].replace("-", "").replace(":", "").replace("T", "-")
    request = pipeline.Request(
        run_dir=target.absolute(),
        profile=path.absolute(),
        provider=provider,
        cluster=cluster,
        scenarios=scenarios,
        keep=keep,
        keep_on_failure=keep_on_failure,
        first=first,
    )
    record = pipeline.run(request, load_settings(), _Shown())
    verdict = "passed" if record.exit_code == 0 else "FAILED"
    click.echo(f"{verdict}: {target / 'REPORT.md'}")
    sys.exit(record.exit_code)


@cli.command()
@click.argument("name", default="dev", metavar="[NAME, else dev]")
@provider_option
def up(name: str, provider: str) -> None:
    """Make a cluster and leave it running."""
    from k8s_e2e.cluster.providers import get_provider  # noqa: PLC0415 - start-up time of the other commands

    made = get_provider(provider, load_settings()).up(name, progress=_Shown())
    click.echo(f"export KUBECONFIG={made.kubeconfig} PATH={made.kubectl.parent}:$PATH  # with a kubectl that fits")


@cli.command()
@click.argument("name", default="dev", metavar="[NAME, else dev]")
@provider_option
def down(name: str, provider: str) -> None:
    """Remove a cluster and everything of it."""
    from k8s_e2e.cluster.providers import get_provider  # noqa: PLC0415 - see up()

    get_provider(provider, load_settings()).down(name, progress=_Shown())


@cli.command()
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


@cli.command()
@click.argument("name")
@click.option("--run-dir", type=click.Path(path_type=Path), required=True)
@profile_option
@click.option(
    "--set", "values", multiple=True, metavar="PARAMETER=VALUE", help="A parameter of the stage; a wrong one lists all."
)
@click.option("--scenarios", multiple=True, metavar="NAME|GLOB|PATH", help="For stage test.")
def stage(name: str, run_dir: Path, profile: str | None, values: tuple[str, ...], scenarios: tuple[str, ...]) -> None:
    """Run one stage on a run directory: deploy, test, collect, trace-analysis or report."""
    from k8s_e2e import notebooks  # noqa: PLC0415 - see run_command()
    from k8s_e2e.model.parameters import parameters_of  # noqa: PLC0415

    parameters: dict[str, Any] = {"profile": str(_profile(profile).absolute())}
    for value in values:
        key, equals, text = value.partition("=")
        if not equals:
            message = f"--set {value}: not PARAMETER=VALUE"
            raise UsageError(message)
        parameters[key] = text
    if scenarios:
        parameters["scenarios"] = list(scenarios)
    parameters_of(name, {**parameters, "run_dir": str(run_dir)})
    load_profile(_profile(profile))
    if name != "deploy":
        io.load(RunDir.existing(run_dir).run_json, RunRecord)
    outcome = notebooks.run(name, parameters, run_dir.absolute()).outcome
    click.echo(f"stage {name} {outcome.status} in {outcome.duration_s:.1f} s" + _tail(outcome.error, outcome.hint))
    sys.exit(outcome.exit_code)


def _tail(error: str, hint: str) -> str:
    return "".join(f": {text}" for text in (error, hint) if text)


@cli.command("report")
@click.argument("run_dir", type=click.Path(path_type=Path))
def report_command(run_dir: Path) -> None:
    """Write findings and every report of a run directory again, without a notebook."""
    from k8s_e2e import report  # noqa: PLC0415 - see run_command()
    from k8s_e2e.diagnosis import diagnose  # noqa: PLC0415

    run = RunDir.existing(run_dir)
    io.load(run.run_json, RunRecord)
    diagnose(run)
    report.write_reports(run)
    click.echo(str(run.report))


@cli.command()
@click.argument("run_dir", type=click.Path(path_type=Path))
def verify(run_dir: Path) -> None:
    """Compare a run directory with its seal."""
    from k8s_e2e.evidence import manifest  # noqa: PLC0415 - see up()

    differences = manifest.verify(RunDir.existing(run_dir))
    for difference in differences:
        click.echo(difference)
    click.echo(f"{len(differences)} differences from the seal" if differences else "as sealed")
    sys.exit(1 if differences else 0)


@cli.command()
@click.argument("name")
def schema(name: str) -> None:
    """Print the JSON Schema of a file.

    NAME is scenario, run, results, manifest, ...; a wrong one lists all.
    """
    from k8s_e2e.base.files import dumps  # noqa: PLC0415 - see up()
    from k8s_e2e.model.schema import schema as schema_of  # noqa: PLC0415
    from k8s_e2e.scenarios.schema import scenario_schema  # noqa: PLC0415

    click.echo(dumps(schema_of(name, {"scenario": scenario_schema})), nl=False)


def main() -> None:
    """Run the command line and exit: every error is one clear line, its traceback shown only with --debug."""
    words = [word for word in sys.argv[1:] if word != "--debug"]
    debug = len(words) < len(sys.argv) - 1
    try:
        cli.main(words, prog_name=_PROGRAM, standalone_mode=False)
    except click.exceptions.Abort:
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except Exception as error:
        if debug:
            raise
        code, line, hint = _told(error)
        click.echo(f"k8s-e2e: {line}" + (f"\n  {_callable(hint)}" if hint else ""), err=True)
        sys.exit(code)


def _told(error: Exception) -> tuple[int, str, str]:
    """Return exit code, message and hint of an error."""
    if isinstance(error, KitError):
        return error.exit_code, error.message, error.hint
    if isinstance(error, OSError):
        return 3, f"{error.strerror or error}" + (f": {error.filename}" if error.filename else ""), ""
    return 1, f"internal error: {type(error).__name__}: {error}", "--debug shows where; please report it"


__all__ = ["cli", "main"]
