"""Commands that run: the whole job, or one stage of it."""

import sys
from pathlib import Path
from typing import Any

import click

from k8s_e2e.base import clock
from k8s_e2e.base.errors import UsageError
from k8s_e2e.cli.shared import PROGRAM, Shown, callable_here, harmless, profile_option, profile_path, provider_option
from k8s_e2e.model import io
from k8s_e2e.model.layout import STAGES, RunDir
from k8s_e2e.model.profile import load_profile
from k8s_e2e.model.run import RunRecord
from k8s_e2e.model.settings import load_settings

scenarios_option = click.option(
    "--scenarios", multiple=True, metavar="NAME|GLOB|PATH", help="Which scenarios (repeatable)."
)


@click.command("run")
@provider_option
@profile_option
@click.option("--cluster", default="", help="Use this cluster, which exists already, and leave it there.")
@click.option("--image-prefix", default="", metavar="PREFIX", help="Existing clusters: where the images come from.")
@scenarios_option
@click.option("--run-dir", type=click.Path(path_type=Path), help="Where the run is kept (default: reports/runs/...).")
@click.option("--keep", is_flag=True, help="Leave the cluster running; the next run on it deletes the namespace.")
@click.option("--keep-on-failure", is_flag=True, help="Leave the cluster running if something failed.")
@click.option("--from", "first", default="deploy", metavar="STAGE", help=f"Begin at: {', '.join(STAGES)}.")
def run(
    provider: str,
    profile: str | None,
    cluster: str,
    image_prefix: str,
    scenarios: tuple[str, ...],
    run_dir: Path | None,
    keep: bool,
    keep_on_failure: bool,
    first: str,
) -> None:
    """Cluster, platform, scenarios, evidence, report: the whole job."""
    from k8s_e2e import pipeline  # noqa: PLC0415 - brings papermill's world; `--help` does without
    from k8s_e2e.report.in_short import in_short  # noqa: PLC0415

    if first != "deploy" and run_dir is None:
        message = f"--from {first} needs --run-dir"
        raise UsageError(message, hint="name the run directory to go on with")
    path = profile_path(profile)
    target = run_dir or _runs(path) / clock.now()[:19].replace("-", "").replace(":", "").replace("T", "-")
    request = pipeline.Request(
        run_dir=target.absolute(),
        profile=path.absolute(),
        provider=provider,
        cluster=cluster,
        image_prefix=image_prefix,
        scenarios=scenarios,
        keep=keep,
        keep_on_failure=keep_on_failure,
        first=first,
        program=PROGRAM,
        profile_named=profile or "",
    )
    record = pipeline.run(request, load_settings(), Shown())
    verdict = "passed" if record.exit_code == 0 else "FAILED"
    click.echo(f"{verdict}: {target / 'REPORT.md'}")
    if record.exit_code:
        for line in in_short(RunDir(target)):
            click.echo(f"  {harmless(callable_here(line))}")
    sys.exit(record.exit_code)


@click.command()
@click.argument("name")
@click.option("--run-dir", type=click.Path(path_type=Path), required=True)
@profile_option
@click.option(
    "--set", "values", multiple=True, metavar="PARAMETER=VALUE", help="A parameter of the stage; a wrong one lists all."
)
@click.option("--scenarios", multiple=True, metavar="NAME|GLOB|PATH", help="For stage test.")
def stage(name: str, run_dir: Path, profile: str | None, values: tuple[str, ...], scenarios: tuple[str, ...]) -> None:
    """Run one stage on a run directory: deploy, test, collect, trace-analysis or report."""
    from k8s_e2e import notebooks  # noqa: PLC0415 - see run()
    from k8s_e2e.model.parameters import parameters_of  # noqa: PLC0415
    from k8s_e2e.stages.collect import complete_seal  # noqa: PLC0415

    parameters: dict[str, Any] = {"profile": str(profile_path(profile).absolute())}
    for value in values:
        key, equals, text = value.partition("=")
        if not equals:
            message = f"--set {value}: not PARAMETER=VALUE"
            raise UsageError(message)
        parameters[key] = text
    if scenarios:
        parameters["scenarios"] = list(scenarios)
    parameters_of(name, {**parameters, "run_dir": str(run_dir)})
    load_profile(profile_path(profile))
    if name != "deploy":
        io.load(RunDir.existing(run_dir).run_json, RunRecord)
    if name == "collect" and (sealed := complete_seal(RunDir(run_dir), load_settings())):
        # No notebook: the one of the collection stays, and so does the time at which it was.
        click.echo(f"stage collect: everything was collected by {sealed.sealed} and stays as it is")
        return
    outcome = notebooks.run(name, parameters, run_dir.absolute()).outcome
    click.echo(f"stage {name} {outcome.status} in {outcome.duration_s:.1f} s" + _tail(outcome.error, outcome.hint))
    sys.exit(outcome.exit_code)


def _runs(profile: Path) -> Path:
    writable = profile.parent if (profile.parent / ".git").exists() else Path.cwd()
    return writable / "reports" / "runs"


def _tail(error: str, hint: str) -> str:
    return "".join(f": {harmless(text)}" for text in (error, hint) if text)


COMMANDS = (run, stage)
