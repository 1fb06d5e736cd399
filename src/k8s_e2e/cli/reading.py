"""Commands that read a run directory, or write what is derived from it, without a cluster."""

import sys
from pathlib import Path

import click

from k8s_e2e.cli.shared import harmless
from k8s_e2e.model import io
from k8s_e2e.model.layout import RunDir
from k8s_e2e.model.run import RunRecord

run_dir_argument = click.argument("run_dir", type=click.Path(path_type=Path))


@click.command()
@run_dir_argument
def report(run_dir: Path) -> None:
    """Write findings and every report of a run directory again, without a notebook."""
    from k8s_e2e import report as reports  # noqa: PLC0415 - start-up time of the other commands
    from k8s_e2e.diagnosis import diagnose  # noqa: PLC0415

    run = RunDir.existing(run_dir)
    io.load(run.run_json, RunRecord)
    diagnose(run)
    reports.write_reports(run)
    click.echo(str(run.report))


@click.command()
@run_dir_argument
def verify(run_dir: Path) -> None:
    """Compare a run directory with its seal."""
    from k8s_e2e.evidence import manifest  # noqa: PLC0415 - see report()

    differences = manifest.verify(RunDir.existing(run_dir))
    for difference in differences:
        click.echo(harmless(difference))
    click.echo(f"{len(differences)} differences from the seal" if differences else "as sealed")
    sys.exit(1 if differences else 0)


@click.command()
@click.argument("name")
def schema(name: str) -> None:
    """Print the JSON Schema of a file.

    NAME is scenario, run, results, manifest, ...; a wrong one lists all.
    """
    from k8s_e2e.base.files import dumps  # noqa: PLC0415 - see report()
    from k8s_e2e.model.schema import schema as schema_of  # noqa: PLC0415
    from k8s_e2e.scenarios.schema import scenario_schema  # noqa: PLC0415

    click.echo(dumps(schema_of(name, {"scenario": scenario_schema})), nl=False)


COMMANDS = (report, verify, schema)
