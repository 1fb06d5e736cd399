"""The phase of an environment, and where it hangs."""

from typing import Any

import msgspec
import pytest

from turbo_services.common.wire import Build, Environment, GraphStatus
from turbo_services.envmanager.phase import Answer, judge

BUILD = msgspec.convert(
    {
        "id": "b2",
        "environmentId": "e",
        "rootPackageName": "r",
        "status": "running",
        "steps": [{"name": "resolve", "status": "succeeded"}, {"name": "compose", "status": "running"}],
        "artifacts": [],
        "createdAt": "t",
    },
    Build,
)


def environment(status: str, **more: Any) -> Environment:
    """An environment whose current build is b2."""
    given = {"id": "e", "name": "e", "baseRootPackage": "r", "overrides": [], "createdAt": "t", "updatedAt": "t"}
    return msgspec.convert({**given, "status": status, "currentBuildId": "b2", **more}, Environment)


def operator(phase: str, build: str | None = "b2", **more: Any) -> GraphStatus:
    """What the operator says."""
    return msgspec.convert({"environmentId": "e", "phase": phase, "buildId": build, **more}, GraphStatus)


BEHIND = {"packageName": "p", "phase": "Deploying", "availableReplicas": 0, "replicas": 1, "message": "ErrImagePull"}
FINE = {"type": "Degraded", "status": "False", "reason": "AsExpected"}
REFUSED = {"type": "Accepted", "status": "False", "reason": "Invalid", "message": "bad name"}


@pytest.mark.parametrize(
    ("given", "answer", "hop", "expected"),
    [
        (environment("creating"), Answer(), "", ("Building", "builder has not been asked yet")),
        (environment("creating"), Answer(), "builder is away", ("Building", "builder is away")),
        (environment("building"), Answer(build=BUILD), "", ("Building", "build b2: compose")),
        (environment("building"), Answer(build_error="no"), "", ("Building", "builder: no")),
        (environment("failed", message="resolve: x"), Answer(), "", ("Failed", "build: resolve: x")),
        (environment("ready"), Answer(operator_error="away"), "", ("Reconciling", "operator: away")),
        (environment("ready"), Answer(), "", ("Reconciling", "operator has not taken up build b2 yet")),
        (
            environment("ready"),
            Answer(operator=operator("Running", "b1")),
            "",
            ("Reconciling", "operator is at build b1, current is b2"),
        ),
        (
            environment("ready"),
            Answer(operator=operator("Running", None)),
            "",
            ("Reconciling", "operator is at build unknown, current is b2"),
        ),
        (environment("ready"), Answer(operator=operator("Running")), "", ("Running", "")),
        (
            environment("ready"),
            Answer(operator=operator("Deploying", componentStatuses=[BEHIND])),
            "",
            ("Deploying", "component p: 0/1 available, ErrImagePull"),
        ),
        (
            environment("ready"),
            Answer(operator=operator("Failed", conditions=[REFUSED])),
            "",
            ("Failed", "Accepted: bad name"),
        ),
        (
            environment("ready"),
            Answer(
                operator=operator(
                    "Degraded", conditions=[FINE, {"type": "Degraded", "status": "True", "reason": "Bad"}]
                )
            ),
            "",
            ("Degraded", "Degraded: Bad"),
        ),
        (
            environment("ready"),
            Answer(operator=operator("Unheard", conditions=[FINE])),
            "",
            ("Reconciling", "operator reports phase Unheard"),
        ),
        (environment("deleting"), Answer(operator_error="away"), "", ("Deleting", "operator: away")),
        (
            environment("deleting"),
            Answer(operator=operator("Running")),
            "",
            ("Deleting", "operator still has it: phase Running"),
        ),
        (environment("deleting"), Answer(), "builder is away", ("Deleting", "builder is away")),
        (
            environment("deleting"),
            Answer(),
            "",
            ("Deleting", "waiting for the operator to confirm that nothing is left"),
        ),
    ],
)
def test_phase_and_where_it_hangs(given: Environment, answer: Answer, hop: str, expected: tuple[str, str]) -> None:
    """Every state says what it is and names the hop that has not happened."""
    assert tuple(judge(given, answer, hop)) == expected
