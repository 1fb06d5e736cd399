"""Status is earned: computed from what the API server shows."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from specs import component, converge, graph_of, spec, valid_specs

from turbo_operator.applier import NoopApplier
from turbo_operator.core.normalize import normalize
from turbo_operator.core.rollout import Progress
from turbo_operator.core.status import Subject, shortened, status

NOW = "2026-01-01T00:00:00Z"
SUBJECT = Subject(generation=1, build_id="build-1")


def _converged(value: dict[str, Any]) -> tuple[NoopApplier, Progress]:
    applier = NoopApplier()
    converge(applier, value)
    return applier, _judged(applier)


def _judged(applier: NoopApplier, **more: Any) -> Progress:
    judged = {key: obj["metadata"]["generation"] for key, obj in applier.objects.items() if key[0] == "Deployment"}
    return Progress(1, judged=judged, **more)


def _condition(result: dict[str, Any], name: str) -> dict[str, Any]:
    return next(c for c in result["conditions"] if c["type"] == name)


@given(valid_specs())
def test_running_when_every_deployment_says_so(value: dict[str, Any]) -> None:
    """With all objects in place and all replicas available the graph runs, and says of which build it speaks."""
    applier, progress = _converged(value)
    result = status(graph_of(value), applier.objects, progress, SUBJECT, now=NOW)
    assert result["phase"] == "Running"
    assert (result["buildId"], result["observedGeneration"]) == ("build-1", 1)
    assert _condition(result, "Ready")["status"] == "True"
    assert {row["packageName"] for row in result["componentStatuses"]} == {
        c["packageName"] for c in value["components"]
    }


_FALSE = {
    "unobserved": lambda d: d["status"].update(observedGeneration=0),
    "no status": lambda d: d.pop("status"),
    "unavailable": lambda d: d["status"].update(availableReplicas=1),
    "old replicas": lambda d: d["status"].update(replicas=3),
    "not updated": lambda d: d["status"].update(updatedReplicas=1),
    "edited": lambda d: (d["metadata"].update(generation=2), d["status"].update(observedGeneration=2)),
    "deleting": lambda d: d["metadata"].update(deletionTimestamp=NOW),
}


@pytest.mark.parametrize("change", _FALSE.values(), ids=_FALSE.keys())
def test_r17_running_is_never_said_falsely(change: Any) -> None:
    """Any sign that a Deployment is not, or not yet, what the graph wants keeps the graph from Running."""
    value = spec(component(replicas=2), component("other"))
    applier, progress = _converged(value)
    change(applier.objects["Deployment", "deploy-users"])
    result = status(graph_of(value), applier.objects, progress, SUBJECT, now=NOW)
    assert result["phase"] in {"Reconciling", "Deploying", "Degraded"}
    rows = {row["packageName"]: row for row in result["componentStatuses"]}
    assert rows["users"]["phase"] != "Running"
    assert rows["users"]["message"]
    assert rows["other"]["phase"] == "Running"
    assert _condition(result, "Ready")["message"].startswith("1 of 2 components run: users:")


@given(
    st.sampled_from(["ConfigMap", "Service", "Deployment"]),
    st.sampled_from(["gone", "pending", "failed", "conflict", "unplanned"]),
)
def test_r17_nor_when_any_object_is_missing_or_unwritten(kind: str, fault: str) -> None:
    """A missing, unwritten, failed or foreign object of any kind, or an unplanned generation, is not Running."""
    value = spec(component())
    applier, progress = _converged(value)
    key = next(k for k in applier.objects if k[0] == kind)
    if fault == "gone":
        del applier.objects[key]
    elif fault == "unplanned":
        progress = Progress(0)
    else:
        name = {"pending": "pending", "failed": "failures", "conflict": "conflicts"}[fault]
        progress = _judged(applier, **{name: {key: "because"}})
    result = status(graph_of(value), applier.objects, progress, SUBJECT, now=NOW)
    expected = {"gone": "Reconciling", "pending": "Reconciling", "unplanned": "Reconciling"}.get(fault, "Degraded")
    assert result["phase"] == expected
    assert _condition(result, "Ready")["status"] == "False"


@pytest.mark.parametrize("trouble", ["failures", "conflicts"])
def test_r17_trouble_with_the_spec_before_is_not_told_of_the_new_one(trouble: str) -> None:
    """Until the new generation is compared with the cluster it is Reconciling, whatever became of the last one."""
    value = spec(component())
    applier, _ = _converged(value)
    progress = _judged(applier, **{trouble: {("Service", "svc-users"): "boom"}})
    result = status(graph_of(value), applier.objects, progress, Subject(2, "build-2"), now=NOW)
    assert (result["phase"], result["observedGeneration"]) == ("Reconciling", 2)
    assert result["componentStatuses"][0]["phase"] == "Pending"
    assert _condition(result, "Applied")["reason"] == "Applying"


def test_a_stalled_rollout_is_degraded_with_the_deployments_own_words() -> None:
    """What the Deployment's conditions say about a stuck rollout reaches the component's message."""
    value = spec(component())
    applier, progress = _converged(value)
    applier.objects["Deployment", "deploy-users"]["status"] |= {
        "availableReplicas": 0,
        "conditions": [
            {
                "type": "Progressing",
                "status": "False",
                "reason": "ProgressDeadlineExceeded",
                "message": "timed out",
            }
        ],
    }
    result = status(graph_of(value), applier.objects, progress, SUBJECT, now=NOW)
    assert result["phase"] == "Degraded"
    assert result["componentStatuses"][0]["message"] == (
        "0 of 1 replicas are available; ProgressDeadlineExceeded: timed out"
    )
    assert _condition(result, "Degraded")["reason"] == "RolloutFailed"


def test_replicas_lost_after_running_are_degraded_until_they_are_back() -> None:
    """Waiting for pods is Deploying the first time and Degraded once the Deployment ran as it is."""
    value = spec(component())
    applier, progress = _converged(value)
    deployment = applier.objects["Deployment", "deploy-users"]
    running = status(graph_of(value), applier.objects, progress, SUBJECT, now=NOW)
    deployment["status"]["availableReplicas"] = 0
    first = status(graph_of(value), applier.objects, progress, SUBJECT, now=NOW)
    assert first["phase"] == "Deploying"
    for _ in range(2):
        subject = Subject(1, "build-1", previous=running)
        running = status(graph_of(value), applier.objects, progress, subject, now=NOW)
        assert running["phase"] == "Degraded"
    deployment["status"]["availableReplicas"] = 1
    subject = Subject(1, "build-1", previous=running)
    assert status(graph_of(value), applier.objects, progress, subject, now=NOW)["phase"] == "Running"


def test_refused_graphs_and_components_are_said() -> None:
    """A refused graph is Failed with the reasons; a refused component degrades the graph and keeps its row."""
    failed = status(normalize({"environmentId": "x"}), {}, Progress(1), SUBJECT, now=NOW)
    assert failed["phase"] == "Failed"
    assert "buildId: is required" in _condition(failed, "Accepted")["message"]
    value = spec(component(replicas=-1), component("other"))
    applier, progress = _converged(value)
    partly = status(graph_of(value), applier.objects, progress, SUBJECT, now=NOW)
    assert partly["phase"] == "Degraded"
    assert [(row["packageName"], row["phase"]) for row in partly["componentStatuses"]] == [
        ("other", "Running"),
        ("users", "Refused"),
    ]
    assert _condition(partly, "Accepted")["reason"] == "PartlyRefused"


def test_transition_times_change_only_with_the_condition() -> None:
    """A later status with the same verdict keeps the time of the first."""
    value = spec(component())
    applier, progress = _converged(value)
    first = status(graph_of(value), applier.objects, progress, SUBJECT, now=NOW)
    del applier.objects["Service", "svc-users"]
    subject = Subject(1, "build-1", previous=copy.deepcopy(first))
    second = status(graph_of(value), applier.objects, progress, subject, now="2026-01-02T00:00:00Z")
    assert _condition(second, "Accepted")["lastTransitionTime"] == NOW
    assert _condition(second, "Ready")["lastTransitionTime"] == "2026-01-02T00:00:00Z"


def test_a_simulated_run_is_said_to_be_one() -> None:
    """In dev mode every row and the Ready condition say that nothing runs in truth."""
    value = spec(component(), ingress={"host": "x.example.com"})
    applier, progress = _converged(value)
    result = status(graph_of(value), applier.objects, progress, SUBJECT, now=NOW, simulated=True)
    assert result["componentStatuses"][0]["message"].startswith("simulated")
    assert _condition(result, "Ready")["reason"] == "Simulated"
    assert result["previewUrl"] == "http://x.example.com/"


def test_a_deleted_graph_is_deleting() -> None:
    """A graph on its way out says so whatever else is true."""
    value = spec(component())
    applier, progress = _converged(value)
    subject = Subject(1, "build-1", deleting=True)
    result = status(graph_of(value), applier.objects, progress, subject, now=NOW)
    assert result["phase"] == "Deleting"
    assert [_condition(result, name)["reason"] for name in ("Applied", "Progressing")] == ["Deleting"] * 2


def test_the_status_of_a_graph() -> None:
    """All that is said of a running graph; without a host there is no preview URL."""
    value = spec(component(), component("other"), ingress={"host": "x.example.com"})
    applier, progress = _converged(value)
    row = {
        "packageName": "other",
        "packageVersion": "1.0.0",
        "artifactHash": "sha256:other-1.0.0",
        "phase": "Running",
        "replicas": 1,
        "availableReplicas": 1,
        "availableGeneration": 1,
        "configMap": "cm-other",
        "service": "svc-other",
        "deployment": "deploy-other",
    }
    users = {key: str(said).replace("other", "users") if isinstance(said, str) else said for key, said in row.items()}
    said = [
        ("Accepted", "True", "Accepted"),
        ("Applied", "True", "AllApplied"),
        ("Ready", "True", "AllAvailable"),
        ("Progressing", "False", "Settled"),
        ("Degraded", "False", "AsExpected"),
    ]
    expected = {
        "observedGeneration": 1,
        "buildId": "build-1",
        "phase": "Running",
        "componentStatuses": [row, users],
        "conditions": [
            {
                "type": name,
                "status": state,
                "reason": reason,
                "message": "",
                "observedGeneration": 1,
                "lastTransitionTime": NOW,
            }
            for name, state, reason in said
        ],
        "previewUrl": "http://x.example.com/",
    }
    assert status(graph_of(value), applier.objects, progress, SUBJECT, now=NOW) == expected
    del value["ingress"], expected["previewUrl"]
    assert status(graph_of(value), applier.objects, progress, SUBJECT, now=NOW) == expected


def test_what_is_refused_is_told_with_the_components_first() -> None:
    """Problems of components stand before those of the ingress, each with its package; rows stand by package name."""
    value = spec(component("a", replicas=-1), component("b"), component("c", port=0), ingress={"host": "Bad Host"})
    applier, progress = _converged(value)
    result = status(graph_of(value), applier.objects, progress, SUBJECT, now=NOW)
    told = _condition(result, "Accepted")
    assert (told["status"], told["reason"]) == ("False", "PartlyRefused")
    assert told["message"].startswith(
        "a: runtime.replicas: must be 0 to 1000, is -1; c: runtime.port: must be 1 to 65535, is 0; ingress.host: "
    )
    assert _condition(result, "Degraded")["message"] == told["message"]
    assert _condition(result, "Applied")["message"] == "all but 2 components, refused for what Accepted says"
    assert [row["packageName"] for row in result["componentStatuses"]] == ["a", "b", "c"]


def test_a_bad_route_alone_degrades_the_graph() -> None:
    """All components run, which Ready says, and still something of the spec cannot be used."""
    value = spec(component(), ingress={"routes": [{"path": "/", "targetComponent": "nobody"}]})
    applier, progress = _converged(value)
    result = status(graph_of(value), applier.objects, progress, SUBJECT, now=NOW)
    assert result["phase"] == "Degraded"
    assert {c["type"]: (c["status"], c["reason"]) for c in result["conditions"]} == {
        "Accepted": ("False", "PartlyRefused"),
        "Applied": ("True", "AllApplied"),
        "Ready": ("True", "AllAvailable"),
        "Progressing": ("False", "Settled"),
        "Degraded": ("True", "Refused"),
    }


def test_a_refused_graph_has_no_rows() -> None:
    """Nothing is said of components of which nothing is known; nothing is applied; the build is still named."""
    result = status(normalize([]), {}, Progress(1), SUBJECT, now=NOW)
    assert (result["phase"], result["componentStatuses"], result["buildId"]) == ("Failed", [], "build-1")
    reasons = {c["type"]: (c["status"], c["reason"]) for c in result["conditions"]}
    assert reasons == {
        "Accepted": ("False", "Refused"),
        "Applied": ("False", "Refused"),
        "Ready": ("False", "Refused"),
        "Progressing": ("False", "Settled"),
        "Degraded": ("True", "Refused"),
    }
    assert "previewUrl" not in result


def test_loss_is_judged_within_one_generation_of_the_deployment_only() -> None:
    """What ran before the newest change of its Deployment is awaited, not lost; so is what never ran."""
    value = spec(component(), component("other"))
    applier, progress = _converged(value)
    running = status(graph_of(value), applier.objects, progress, SUBJECT, now=NOW)
    for name in ("users", "other"):
        applier.objects["Deployment", f"deploy-{name}"]["status"]["availableReplicas"] = 0

    def phases(previous: dict[str, Any] | None) -> list[str]:
        subject = Subject(1, "build-1", previous=previous)
        result = status(graph_of(value), applier.objects, progress, subject, now=NOW)
        return [row["phase"] for row in result["componentStatuses"]]

    assert phases(running) == ["Degraded", "Degraded"]
    assert phases({**running, "observedGeneration": 0}) == ["Degraded", "Degraded"]
    applier.objects["Deployment", "deploy-other"]["metadata"]["generation"] = 2
    applier.objects["Deployment", "deploy-other"]["status"]["observedGeneration"] = 2
    progress = _judged(applier)
    assert phases(running) == ["Deploying", "Degraded"]
    assert phases({"observedGeneration": 1}) == ["Deploying", "Deploying"]
    assert phases({"observedGeneration": 1, "componentStatuses": None}) == ["Deploying", "Deploying"]
    other, users = running["componentStatuses"]
    rows = [{"packageName": "nobody"}, other, {**users, "phase": "Pending", "message": "why"}]
    assert phases({"observedGeneration": 1, "componentStatuses": rows}) == ["Deploying", "Degraded"]


_PHASES: dict[str, tuple[Progress, str]] = {
    "a failed write": (Progress(1, failures={("Service", "svc-left"): "no"}), "Degraded"),
    "a foreign object": (Progress(1, conflicts={("Service", "svc-left"): "no"}), "Degraded"),
    "a failed write of an older plan": (Progress(0, failures={("Service", "svc-left"): "no"}), "Reconciling"),
    "a write to come": (Progress(1, pending={("Service", "svc-left"): "no longer in the graph"}), "Reconciling"),
    "no plan": (Progress(0), "Reconciling"),
    "nothing": (Progress(1), "Running"),
}


@pytest.mark.parametrize(("progress", "phase"), _PHASES.values(), ids=_PHASES.keys())
def test_what_is_left_of_others_counts_for_the_graph(progress: Progress, phase: str) -> None:
    """A graph without components is Running once no object of the past is left to write."""
    result = status(graph_of(spec()), {}, progress, SUBJECT, now=NOW)
    assert result["phase"] == phase
    assert _condition(result, "Ready")["status"] == ("True" if progress.generation == 1 else "False")


def test_a_shortened_status_keeps_what_needs_a_look() -> None:
    """Of the components the first hundred that do not run are left, with the beginning of their messages."""
    value = spec(*(component(f"c{n:03}", replicas=0 if n == 5 else 1) for n in range(150)))
    applier, progress = _converged(value)
    for n in range(150):
        if n != 5:
            applier.objects["Deployment", f"deploy-c{n:03}"]["status"]["availableReplicas"] = 0
    full = status(graph_of(value), applier.objects, progress, SUBJECT, now=NOW)
    full["componentStatuses"][0]["message"] = full["conditions"][0]["message"] = "m" * 400
    short = shortened(full)
    assert [row["packageName"] for row in short["componentStatuses"]] == [f"c{n:03}" for n in range(101) if n != 5]
    assert short["componentStatuses"][0]["message"] == short["conditions"][0]["message"] == "m" * 300
    assert short["componentStatuses"][1:] == [r for r in full["componentStatuses"] if r["phase"] != "Running"][1:100]
    same = {"componentStatuses", "conditions"}
    assert {k: v for k, v in short.items() if k not in same} == {k: v for k, v in full.items() if k not in same}
    assert len(short["conditions"]) == len(full["conditions"])
