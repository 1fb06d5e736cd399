"""The conditions of an APIGraph: status, reason and message of each."""

from typing import Any

import pytest

from turbo_operator.core import conditions
from turbo_operator.core.rollout import Progress

_CONFIG_MAP, _SERVICE = ("ConfigMap", "cm-a"), ("Service", "svc-a")
_BOTH = {_SERVICE: "second", _CONFIG_MAP: "first"}
_LISTED = "ConfigMap cm-a: first; Service svc-a: second"


def _component(name: str, phase: str, **more: Any) -> dict[str, Any]:
    return {"packageName": name, "phase": phase, **more}


def test_a_condition_has_the_standard_form() -> None:
    """Each verdict in its order, with the generation and the time of the last change of status."""
    verdicts = {"Ready": ("True", "AllAvailable", ""), "Degraded": ("False", "AsExpected", "fine")}
    made = conditions.conditions(verdicts, generation=3, previous=None, now="t1")
    assert made == [
        {
            "type": "Ready",
            "status": "True",
            "reason": "AllAvailable",
            "message": "",
            "observedGeneration": 3,
            "lastTransitionTime": "t1",
        },
        {
            "type": "Degraded",
            "status": "False",
            "reason": "AsExpected",
            "message": "fine",
            "observedGeneration": 3,
            "lastTransitionTime": "t1",
        },
    ]


_BEFORE: dict[str, tuple[Any, str]] = {
    "the same status": ([{"type": "Ready", "status": "True", "reason": "x", "lastTransitionTime": "t0"}], "t0"),
    "another status": ([{"type": "Ready", "status": "False", "lastTransitionTime": "t0"}], "t1"),
    "without a time": ([{"type": "Ready", "status": "True"}], "t1"),
    "another condition": ([{"type": "Other", "status": "True", "lastTransitionTime": "t0"}], "t1"),
    "none": (None, "t1"),
}


@pytest.mark.parametrize(("before", "time"), _BEFORE.values(), ids=_BEFORE.keys())
def test_the_transition_time_is_that_of_the_status(before: Any, time: str) -> None:
    """A condition whose status is that of before keeps its time, whatever else changed."""
    verdicts = {"Ready": ("True", "AllAvailable", "")}
    made = conditions.conditions(verdicts, generation=3, previous={"conditions": before}, now="t1")
    assert [c["lastTransitionTime"] for c in made] == [time]


def test_accepted_says_what_was_refused() -> None:
    """A spec is accepted, partly refused with the problems, or refused."""
    assert conditions.accepted([], refused=False) == ("True", "Accepted", "")
    assert conditions.accepted(["a", "b"], refused=False) == ("False", "PartlyRefused", "a; b")
    assert conditions.accepted(["a"], refused=True) == ("False", "Refused", "a")


_GOES = "the APIGraph is being deleted"
_APPLIED: dict[str, tuple[str, Progress, conditions.Verdict]] = {
    "all": ("Running", Progress(7), ("True", "AllApplied", "")),
    "of a graph that is refused": (
        "Failed",
        Progress(7, pending=_BOTH),
        ("False", "Refused", "nothing is applied of a refused graph"),
    ),
    "of a graph that goes": ("Deleting", Progress(7, failures=_BOTH), ("False", "Deleting", _GOES)),
    "failures, before conflicts": (
        "Degraded",
        Progress(7, failures=_BOTH, conflicts={_SERVICE: "c"}, pending={_SERVICE: "p"}),
        ("False", "WriteFailed", _LISTED),
    ),
    "conflicts": ("Degraded", Progress(7, conflicts=_BOTH, pending={_SERVICE: "p"}), ("False", "Conflict", _LISTED)),
    "pending": ("Reconciling", Progress(7, pending=_BOTH), ("False", "Applying", _LISTED)),
}


@pytest.mark.parametrize(("phase", "progress", "verdict"), _APPLIED.values(), ids=_APPLIED.keys())
def test_applied_says_what_is_not_written(phase: str, progress: Progress, verdict: conditions.Verdict) -> None:
    """Applied is true when the generation was planned and nothing of it is outstanding, failed or taken."""
    assert conditions.applied(phase, progress, planned=True, unused=0) == verdict


def test_applied_waits_for_the_first_look() -> None:
    """Before the generation was planned nobody knows what there is to write."""
    told = conditions.applied("Reconciling", Progress(6), planned=False, unused=1)
    assert told == ("False", "Applying", "not yet compared with the cluster")


def test_applied_says_that_components_are_left_out() -> None:
    """All is applied of what can be: how much cannot is not hidden behind it."""
    message = "all but 2 components, refused for what Accepted says"
    assert conditions.applied("Degraded", Progress(7), planned=True, unused=2) == ("True", "AllApplied", message)
    message = "all but 1 component, refused for what Accepted says"
    assert conditions.applied("Degraded", Progress(7), planned=True, unused=1) == ("True", "AllApplied", message)


def test_ready_counts_what_runs() -> None:
    """Ready is true where every component runs, says when it is simulated, and names what does not run."""
    rows = [_component("a", "Running"), _component("b", "Pending", message="why"), _component("c", "Failed")]
    simulated = "simulated: OPERATOR_MODE=dev writes nothing and runs nothing"
    for phase in ("Running", "Degraded", "Reconciling"):
        told = conditions.ready(phase, rows[:1], planned=True, simulated=False)
        assert told == ("True", "AllAvailable", "")
    assert conditions.ready("Running", rows[:1], planned=True, simulated=True) == ("True", "Simulated", simulated)
    message = "1 of 3 components run: b: why; c: Failed"
    for planned in (False, True):
        told = conditions.ready("Degraded", rows, planned=planned, simulated=True)
        assert told == ("False", "NotAvailable", message)


def test_a_graph_without_components_is_ready_once_it_was_compared() -> None:
    """Where there are no components none is missing, but nobody has looked before the first plan."""
    assert conditions.ready("Running", [], planned=True, simulated=False) == ("True", "AllAvailable", "")
    message = "not yet compared with the cluster"
    assert conditions.ready("Reconciling", [], planned=False, simulated=False) == ("False", "NotAvailable", message)


def test_what_is_deleted_or_refused_is_not_ready() -> None:
    """However many components still run of a graph that goes; of one that is refused nothing is known."""
    message = "the APIGraph is being deleted"
    rows = [_component("a", "Running")]
    assert conditions.ready("Deleting", rows, planned=True, simulated=False) == ("False", "Deleting", message)
    message = "a refused graph has no components"
    assert conditions.ready("Failed", [], planned=True, simulated=False) == ("False", "Refused", message)


@pytest.mark.parametrize("phase", ["Reconciling", "Deploying", "Deleting"])
def test_progressing_is_the_graphs_phase(phase: str) -> None:
    """A graph on its way says where."""
    assert conditions.progressing(phase, []) == ("True", phase, "")


def test_progressing_is_any_component_on_its_way() -> None:
    """A degraded graph may still be moving; one of which nothing moves is settled."""
    for moving in ("Pending", "Deploying"):
        rows = [_component("a", "Failed"), _component("b", moving)]
        assert conditions.progressing("Degraded", rows) == ("True", "Deploying", "")
    assert conditions.progressing("Degraded", [_component("a", "Failed")]) == ("False", "Settled", "")
    assert conditions.progressing("Running", [_component("a", "Running")]) == ("False", "Settled", "")


_ROWS = [_component("a", "Degraded", message="stuck"), _component("b", "Running"), _component("c", "Degraded")]
_DEGRADED: dict[str, tuple[str, list[str], Progress, conditions.Verdict]] = {
    "problems, before all else": (
        "Degraded",
        ["a", "b"],
        Progress(7, conflicts=_BOTH, failures=_BOTH),
        ("True", "Refused", "a; b"),
    ),
    "a refused graph": ("Failed", ["a"], Progress(7), ("True", "Refused", "a")),
    "conflicts, before failures": (
        "Degraded",
        [],
        Progress(7, conflicts=_BOTH, failures={_SERVICE: "f"}),
        ("True", "Conflict", _LISTED),
    ),
    "failures": ("Degraded", [], Progress(7, failures=_BOTH), ("True", "WriteFailed", _LISTED)),
    "rollouts": ("Degraded", [], Progress(7), ("True", "RolloutFailed", "a: stuck; c: Degraded")),
    "all well": ("Running", [], Progress(7), ("False", "AsExpected", "")),
    "on its way": ("Reconciling", [], Progress(7, pending=_BOTH), ("False", "AsExpected", "")),
}


@pytest.mark.parametrize(("phase", "problems", "progress", "verdict"), _DEGRADED.values(), ids=_DEGRADED.keys())
def test_degraded_says_what_needs_help(
    phase: str, problems: list[str], progress: Progress, verdict: conditions.Verdict
) -> None:
    """Of a graph that time alone does not mend the first cause is told: refusals, conflicts, failures, rollouts."""
    assert conditions.degraded(phase, _ROWS, problems, progress) == verdict


def test_a_message_lists_five_problems_and_counts_the_rest() -> None:
    """Messages stay short however much is wrong."""
    sentences = list("abcdefg")
    assert conditions.listing(sentences[:1]) == "a"
    assert conditions.listing(sentences[:5]) == "a; b; c; d; e"
    assert conditions.listing(sentences[:6]) == "a; b; c; d; e; and 1 more"
    assert conditions.listing(sentences) == "a; b; c; d; e; and 2 more"
