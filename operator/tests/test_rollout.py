"""How far a component is, and in which words."""

import copy
from typing import Any

import pytest
from specs import component, graph_of, spec

from turbo_operator.core.desired import object_keys
from turbo_operator.core.rollout import Progress, component_status, refused_status, rollout

NOW = "2026-01-01T00:00:00Z"
_DONE = {"observedGeneration": 3, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2}
_STALLED = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "timed out"}
_QUOTA = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "exceeded quota"}
_FINE = {"type": "Progressing", "status": "True", "reason": "ReplicaSetUpdated", "message": "is progressing"}

_ROLLOUTS: dict[str, tuple[dict[str, Any] | None, tuple[str, str]]] = {
    "done": (_DONE, ("Running", "")),
    "seen at a later generation": ({**_DONE, "observedGeneration": 4}, ("Running", "")),
    "more than enough": ({**_DONE, "replicas": 3, "updatedReplicas": 3, "availableReplicas": 3}, ("Running", "")),
    "done, whatever the conditions say": ({**_DONE, "conditions": [_STALLED]}, ("Running", "")),
    "no status": (None, ("Deploying", "the Deployment controller has not seen the newest generation")),
    "an older generation": (
        {**_DONE, "observedGeneration": 2},
        ("Deploying", "the Deployment controller has not seen the newest generation"),
    ),
    "nothing yet": ({"observedGeneration": 3}, ("Deploying", "0 of 2 replicas are updated")),
    "half updated": ({**_DONE, "updatedReplicas": 1}, ("Deploying", "1 of 2 replicas are updated")),
    "updated, but not available": (
        {**_DONE, "replicas": 3, "updatedReplicas": 1, "unavailableReplicas": 1},
        ("Deploying", "1 of 2 replicas are updated, and 1 of 3 pods is not available"),
    ),
    "none updated, and old ones not available": (
        {**_DONE, "updatedReplicas": 0, "unavailableReplicas": 2},
        ("Deploying", "0 of 2 replicas are updated"),
    ),
    "old ones left": ({**_DONE, "replicas": 5}, ("Deploying", "3 old pods are still there")),
    "new ones not available": (
        {**_DONE, "replicas": 3, "unavailableReplicas": 1},
        ("Deploying", "1 of 3 pods is not available, so that 1 old pod is still there"),
    ),
    "old ones left because the new ones are not available": (
        {**_DONE, "replicas": 5, "unavailableReplicas": 2},
        ("Deploying", "2 of 5 pods are not available, so that 3 old pods are still there"),
    ),
    "half available": ({**_DONE, "availableReplicas": 1}, ("Deploying", "1 of 2 replicas are available")),
    "none available": (
        {"observedGeneration": 3, "replicas": 2, "updatedReplicas": 2},
        ("Deploying", "0 of 2 replicas are available"),
    ),
    "progressing": (
        {**_DONE, "updatedReplicas": 1, "conditions": [_FINE, {"type": "Available", "status": "False"}]},
        ("Deploying", "1 of 2 replicas are updated"),
    ),
    "stalled": (
        {**_DONE, "availableReplicas": 0, "conditions": [{"type": "Available"}, _STALLED]},
        ("Degraded", "0 of 2 replicas are available; ProgressDeadlineExceeded: timed out"),
    ),
    "pods refused": (
        {**_DONE, "updatedReplicas": 0, "conditions": [_FINE, _QUOTA]},
        ("Degraded", "0 of 2 replicas are updated; FailedCreate: exceeded quota"),
    ),
    "pods no longer refused": (
        {**_DONE, "updatedReplicas": 0, "conditions": [{**_QUOTA, "status": "False"}]},
        ("Deploying", "0 of 2 replicas are updated"),
    ),
}


@pytest.mark.parametrize(("state", "verdict"), _ROLLOUTS.values(), ids=_ROLLOUTS.keys())
def test_r17_a_rollout_is_judged_by_the_deployments_own_status(
    state: dict[str, Any] | None, verdict: tuple[str, str]
) -> None:
    """Of a Deployment of two replicas, each state has its verdict and says what is missing."""
    deployment: dict[str, Any] = {"metadata": {"generation": 3}}
    if state is not None:
        deployment["status"] = state
    assert rollout(deployment, 2) == verdict


def test_a_paused_deployment_is_said_to_be_one() -> None:
    """Nothing comes of an update until somebody resumes it; what runs, runs."""
    state = {**_DONE, "updatedReplicas": 0}
    paused = {"metadata": {"generation": 3}, "spec": {"paused": True}, "status": state}
    assert rollout(paused, 2) == ("Deploying", "0 of 2 replicas are updated; the Deployment is paused")
    assert rollout({**paused, "status": _DONE}, 2) == ("Running", "")


def test_a_paused_rollout_is_said_to_be_one() -> None:
    """Who paused a Deployment finds it in the message, before what its conditions say; one that is done runs."""
    state = {**_DONE, "updatedReplicas": 1}
    deployment = {"metadata": {"generation": 3}, "spec": {"paused": True}, "status": state}
    missing = "1 of 2 replicas are updated; the Deployment is paused"
    assert rollout(deployment, 2) == ("Deploying", missing)
    stalled = {**state, "conditions": [_STALLED]}
    assert rollout({**deployment, "status": stalled}, 2)[1] == f"{missing}; ProgressDeadlineExceeded: timed out"
    assert rollout({**deployment, "status": _DONE}, 2) == ("Running", "")
    assert rollout({**deployment, "spec": None}, 2) == ("Deploying", "1 of 2 replicas are updated")


def test_a_deployment_of_no_replicas_runs_once_it_was_seen() -> None:
    """Zero replicas are all there as soon as the controller agrees; without a generation there is nothing to await."""
    assert rollout({"metadata": {"generation": 1}, "status": {"observedGeneration": 1}}, 0) == ("Running", "")
    assert rollout({"metadata": {}, "status": None}, 0) == ("Running", "")
    assert rollout({"metadata": {"generation": 1}, "status": {}}, 0)[0] == "Deploying"
    old = {"observedGeneration": 1, "replicas": 1}
    assert rollout({"metadata": {"generation": 1}, "status": old}, 0) == ("Deploying", "1 old pod is still there")


KEYS = object_keys("users")
_CONFIG_MAP, _SERVICE, _DEPLOYMENT = KEYS


def _observed() -> dict[Any, Any]:
    objects: dict[Any, Any] = {key: {"kind": key[0], "metadata": {"name": key[1], "generation": 3}} for key in KEYS}
    objects[_DEPLOYMENT]["status"] = dict(_DONE)
    return objects


def _row(
    observed: dict[Any, Any],
    progress: Progress,
    *,
    generation: int = 7,
    ran_at: int | None = None,
    simulated: bool = False,
) -> dict[str, Any]:
    users = graph_of(spec(component(replicas=2))).components[0]
    return component_status(users, observed, progress, generation=generation, ran_at=ran_at, simulated=simulated)


_JUDGED = {_DEPLOYMENT: 3}
_SAID: dict[str, tuple[Progress, tuple[str, str | None]]] = {
    "all well": (Progress(7, judged=_JUDGED), ("Running", None)),
    "a conflict, and before all else": (
        Progress(7, pending={_CONFIG_MAP: "p"}, failures={_CONFIG_MAP: "f"}, conflicts={_SERVICE: "c"}),
        ("Conflict", "Service svc-users: c"),
    ),
    "a failure": (
        Progress(7, pending={_CONFIG_MAP: "p"}, failures={_DEPLOYMENT: "f", _SERVICE: "g"}),
        ("Failed", "Service svc-users: g"),
    ),
    "of others": (
        Progress(
            7,
            pending={("Service", "svc-other"): "p"},
            failures={("Service", "svc-other"): "f"},
            conflicts={("Service", "svc-other"): "c"},
            judged=_JUDGED,
        ),
        ("Running", None),
    ),
    "not planned yet": (
        Progress(6, pending={_SERVICE: "p"}, judged=_JUDGED),
        ("Pending", "not yet compared with the cluster"),
    ),
    "a write to come": (
        Progress(7, pending={_DEPLOYMENT: "q", _SERVICE: "p"}, judged=_JUDGED),
        ("Pending", "Service svc-users: p"),
    ),
    "changed since": (
        Progress(7, judged={_DEPLOYMENT: 2}),
        ("Pending", "Deployment deploy-users changed and is not yet compared with the graph"),
    ),
    "never compared": (
        Progress(7),
        ("Pending", "Deployment deploy-users changed and is not yet compared with the graph"),
    ),
}


@pytest.mark.parametrize(("progress", "said"), _SAID.values(), ids=_SAID.keys())
def test_r17_a_component_waits_for_its_writes(progress: Progress, said: tuple[str, str | None]) -> None:
    """Conflicts, failures and outstanding writes of its own objects come before what its Deployment shows."""
    row = _row(_observed(), progress)
    assert (row["phase"], row.get("message")) == said


_LACKING: dict[str, tuple[Any, str]] = {
    "config map": (_CONFIG_MAP, "ConfigMap cm-users"),
    "service": (_SERVICE, "Service svc-users"),
    "deployment": (_DEPLOYMENT, "Deployment deploy-users"),
}


@pytest.mark.parametrize(("key", "name"), _LACKING.values(), ids=_LACKING.keys())
def test_r17_a_component_waits_for_its_objects(key: Any, name: str) -> None:
    """An object that is missing, or on its way out, is named."""
    observed = _observed()
    observed[key]["metadata"]["deletionTimestamp"] = NOW
    row = _row(observed, Progress(7, judged=_JUDGED))
    assert (row["phase"], row["message"]) == ("Pending", f"{name} is being deleted")
    del observed[key]
    row = _row(observed, Progress(7, judged=_JUDGED))
    assert (row["phase"], row["message"]) == ("Pending", f"{name} does not exist")


def test_what_ran_and_lost_replicas_is_degraded() -> None:
    """Only waiting turns into loss: what still runs, or is written anew, is told as it is."""
    observed = _observed()
    progress = Progress(7, judged=_JUDGED)
    assert _row(observed, progress, ran_at=3)["phase"] == "Running"
    assert _row(observed, Progress(6), ran_at=3)["phase"] == "Pending"
    observed[_DEPLOYMENT]["status"]["availableReplicas"] = 1
    row = _row(observed, progress)
    assert (row["message"], "availableGeneration" in row) == ("1 of 2 replicas are available", False)
    row = _row(observed, progress, ran_at=3)
    assert (row["phase"], row["message"]) == ("Degraded", "1 of 2 replicas are available, after all were available")
    assert row["availableGeneration"] == 3
    del observed[_DEPLOYMENT]["metadata"]["generation"]
    assert _row(observed, Progress(7, judged={}))["phase"] == "Deploying"


_LOOK = "; why is in the pods: kubectl get pods -l turboengine.io/component=users"
_NOT_UP: dict[str, tuple[dict[str, Any], str]] = {
    "waited for": ({}, f"1 of 2 replicas are available{_LOOK}"),
    "given up": (
        {"conditions": [_STALLED]},
        f"1 of 2 replicas are available; ProgressDeadlineExceeded: timed out{_LOOK}",
    ),
    "refused before there is a pod": (
        {"replicas": 0, "updatedReplicas": 0, "unavailableReplicas": 0, "conditions": [_QUOTA]},
        "0 of 2 replicas are updated; FailedCreate: exceeded quota",
    ),
}


@pytest.mark.parametrize(("state", "message"), _NOT_UP.values(), ids=_NOT_UP.keys())
def test_a_component_whose_pods_do_not_come_up_says_how_to_look_at_them(state: dict[str, Any], message: str) -> None:
    """The reason is in no Deployment: where there are pods that are not available, the next command is given."""
    observed = _observed()
    observed[_DEPLOYMENT]["status"] |= {"availableReplicas": 1, "unavailableReplicas": 1, **state}
    assert _row(observed, Progress(7, judged=_JUDGED))["message"] == message
    lost = _row(observed, Progress(7, judged=_JUDGED), ran_at=3)["message"]
    assert lost.endswith(_LOOK) is message.endswith(_LOOK)
    assert _LOOK not in _row(observed, Progress(6))["message"]
    observed[_DEPLOYMENT]["status"] = {**_DONE, "unavailableReplicas": 1}
    assert "message" not in _row(observed, Progress(7, judged=_JUDGED))


_UNDER_WAY: dict[str, dict[str, Any]] = {
    "not seen": {"observedGeneration": 2, "availableReplicas": 0},
    "not updated": {"updatedReplicas": 1},
    "old ones left": {"replicas": 5},
    "none yet of a Deployment made again": {"availableReplicas": 0, "conditions": [_FINE]},
    "none yet of a Deployment just made again": {
        "availableReplicas": 0,
        "conditions": [{"type": "Available"}, {**_FINE, "reason": "NewReplicaSetCreated"}],
    },
    "none yet where the pods were found": {
        "availableReplicas": 0,
        "conditions": [{**_FINE, "reason": "FoundNewReplicaSet"}],
    },
}


@pytest.mark.parametrize("state", _UNDER_WAY.values(), ids=_UNDER_WAY.keys())
def test_a_rollout_under_way_is_no_loss(state: dict[str, Any]) -> None:
    """A component whose Deployment ran at the same generation is Deploying while its controller is at work."""
    observed = _observed()
    observed[_DEPLOYMENT]["status"] |= state
    row = _row(observed, Progress(7, judged=_JUDGED), ran_at=3)
    assert row["phase"] == "Deploying"
    assert row["availableGeneration"] == 3


def test_a_first_generation_is_judged_by_its_own_status() -> None:
    """A Deployment that was just made has lost nothing before its controller says that replicas are missing."""
    observed = _observed()
    deployment = observed[_DEPLOYMENT]
    deployment["metadata"]["generation"] = 1
    deployment["status"] = {}
    users = graph_of(spec(component())).components[0]

    def phase() -> str:
        progress = Progress(7, judged={_DEPLOYMENT: 1})
        row = component_status(users, observed, progress, generation=7, ran_at=1, simulated=False)
        return str(row["phase"])

    assert phase() == "Deploying"
    deployment["status"] = {"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1}
    assert phase() == "Degraded"


def test_a_rollout_of_a_later_generation_is_no_loss() -> None:
    """Whoever changed the Deployment after it ran: its new pods are awaited, and what ran is past."""
    observed = _observed()
    observed[_DEPLOYMENT]["status"]["availableReplicas"] = 1
    row = _row(observed, Progress(7, judged=_JUDGED), ran_at=2)
    assert (row["phase"], row["message"]) == ("Deploying", "1 of 2 replicas are available")
    assert "availableGeneration" not in row


@pytest.mark.parametrize("condition", [{**_FINE, "reason": "NewReplicaSetAvailable"}, {"type": "Available"}])
def test_a_loss_after_the_rollout_is_one_whatever_else_is_said(condition: dict[str, Any]) -> None:
    """The Progressing condition of a Deployment that was complete stays at that when its pods go."""
    observed = _observed()
    observed[_DEPLOYMENT]["status"] |= {"availableReplicas": 0, "conditions": [condition]}
    assert _row(observed, Progress(7, judged=_JUDGED), ran_at=3)["phase"] == "Degraded"
    del observed[_DEPLOYMENT]["status"]["availableReplicas"]
    assert _row(observed, Progress(7, judged=_JUDGED), ran_at=3)["phase"] == "Degraded"


def test_a_simulation_is_said_only_of_what_runs() -> None:
    """A row that is not Running keeps its own message in dev mode."""
    said = "simulated: OPERATOR_MODE=dev writes nothing and runs nothing"
    assert _row(_observed(), Progress(7, judged=_JUDGED), simulated=True)["message"] == said
    assert _row(_observed(), Progress(6), simulated=True)["message"] == "not yet compared with the cluster"


def test_the_row_of_a_component() -> None:
    """A row names the component, its objects and its replicas; of a Deployment of others it counts none."""
    row = {
        "packageName": "users",
        "packageVersion": "1.0.0",
        "artifactHash": "sha256:users-1.0.0",
        "phase": "Running",
        "replicas": 2,
        "availableReplicas": 2,
        "availableGeneration": 3,
        "configMap": "cm-users",
        "service": "svc-users",
        "deployment": "deploy-users",
    }
    observed = _observed()
    assert _row(observed, Progress(7, judged=_JUDGED)) == row
    row.pop("availableGeneration")
    conflict = {**row, "phase": "Conflict", "availableReplicas": 0, "message": "Deployment deploy-users: taken"}
    assert _row(observed, Progress(7, conflicts={_DEPLOYMENT: "taken"}), ran_at=3) == conflict
    failed = {**row, "phase": "Failed", "message": "Deployment deploy-users: no"}
    assert _row(observed, Progress(7, failures={_DEPLOYMENT: "no"})) == failed
    del observed[_DEPLOYMENT]["status"]
    assert _row(observed, Progress(7, judged=_JUDGED))["availableReplicas"] == 0
    del observed[_DEPLOYMENT]
    assert _row(observed, Progress(7, judged=_JUDGED))["availableReplicas"] == 0


def test_r12_the_row_of_a_refused_component() -> None:
    """It shows what an earlier version left running, and says so; where nothing is left it says the reason alone."""
    graph = graph_of(spec(component(replicas=-1)))
    row = {
        "packageName": "users",
        "packageVersion": "1.0.0",
        "artifactHash": "sha256:users-1.0.0",
        "phase": "Refused",
        "replicas": 0,
        "availableReplicas": 0,
        "configMap": "cm-users",
        "service": "svc-users",
        "deployment": "deploy-users",
        "message": "runtime.replicas: must be 0 to 1000, is -1",
    }
    refused = graph.refused[0]
    assert refused_status(refused, {}) == row
    left = {**row, "message": f"{row['message']} (what an earlier version made is left as it is)"}
    service: dict[Any, Any] = {_SERVICE: {"metadata": {}}}
    assert refused_status(refused, service) == left
    observed = copy.deepcopy(_observed())
    assert refused_status(refused, {_DEPLOYMENT: {**observed[_DEPLOYMENT], "spec": {}}}) == {
        **left,
        "availableReplicas": 2,
    }
    observed[_DEPLOYMENT]["spec"] = {"replicas": 2}
    assert refused_status(refused, observed) == {**left, "replicas": 2, "availableReplicas": 2}
