"""Parameters of the stages: one model a notebook; unknown ones are refused, values are never guessed from text."""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from k8s_e2e.base.errors import UsageError


class StageParameters(BaseModel):
    """What every stage takes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    run_dir: Path
    profile: Path = Path("k8s-e2e.toml")


class DeployParameters(StageParameters):
    """Where the platform goes: ``cluster`` is made unless ``reuse`` says that it exists already.

    ``image_prefix`` stands before the tags of the project's images, which then come from that registry.
    """

    provider: str = "auto"
    cluster: str = "e2e"
    reuse: bool = False
    image_prefix: str = ""


class TestParameters(StageParameters):
    """Which scenarios run: names, globs or paths; none = the profile's own list."""

    __test__ = False  # not a test class, whatever pytest thinks of the name

    scenarios: tuple[str, ...] = Field(default=())


class CollectParameters(StageParameters):
    """Nothing of its own."""


class TraceAnalysisParameters(StageParameters):
    """Nothing of its own."""


class ReportParameters(StageParameters):
    """Nothing of its own."""


MODELS: dict[str, type[StageParameters]] = {
    "deploy": DeployParameters,
    "test": TestParameters,
    "collect": CollectParameters,
    "trace-analysis": TraceAnalysisParameters,
    "report": ReportParameters,
}


def parameters_of(stage: str, values: dict[str, Any]) -> StageParameters:
    """Check ``values`` against the model of ``stage``.

    Raises:
        UsageError: no such stage, an unknown parameter, or a value of the wrong type.
    """
    if stage not in MODELS:
        message = f"no stage is called {stage!r}"
        raise UsageError(message, hint=f"stages: {', '.join(MODELS)}")
    try:
        return MODELS[stage](**values)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        known = ", ".join(MODELS[stage].model_fields)
        message = f"stage {stage}: parameter {name!r}: {first['msg'].lower()}"
        raise UsageError(message, hint=f"its parameters: {known}") from error
