"""The operator killed in the middle of an update, and objects edited by hand: the shipped scenario `chaos`."""

import pytest

from tests.mainjob.runs import Ran

pytestmark = [pytest.mark.mainjob, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def ran(kit, kept_cluster, tmp_path_factory):
    """The scenario, with the platform deployed for it."""
    path = tmp_path_factory.mktemp("chaos") / "run"
    done = kit("run", "--provider", "local", "--cluster", kept_cluster, "--scenarios", "chaos", "--run-dir", path)
    return Ran(done.returncode, path, done.stdout + done.stderr)


def test_the_run_ends_green(ran):
    """All of it is repaired, and a killed operator is no finding once it runs again and has done its work."""
    assert ran.code == 0, ran.output[-4000:]
    assert "# PASSED" in ran.first_screen
    assert ran.json("findings.json").get("findings", []) == []


def test_the_repairs_are_among_the_operators_actions(ran):
    """Of both processes, the killed one included: what each repaired, and what the second one completed."""
    actions = ran.json("k8s/operator-actions.json")["actions"]
    begin = max(n for n, action in enumerate(actions) if action["seq"] == 1)  # each process counts from 1
    killed, successor = actions[:begin], actions[begin:]

    def by(process, verb, kind, name):
        wanted = (verb, kind, name, "ok")
        return [a for a in process if (a["action"], a["resource_kind"], a["resource_name"], a["outcome"]) == wanted]

    assert len(by(killed, "Create", "Service", "svc-payments")) == 2  # made, and made again
    assert ["spec.replicas"] in [action["fields"] for action in by(killed, "Update", "Deployment", "deploy-orders")]
    assert not by(killed, "Create", "Deployment", "deploy-invoices")
    assert len(by(successor, "Create", "Service", "svc-orders")) == 1
    assert len(by(successor, "Update", "ConfigMap", "cm-orders")) == 1
    assert len(by(successor, "Create", "Deployment", "deploy-invoices")) == 1


def test_the_update_that_was_cut_was_completed_and_nothing_made_twice(ran):
    """Of 40 components the killed process made a part and its successor the rest; at most 16 writes went untold."""
    actions = ran.json("k8s/operator-actions.json")["actions"]
    made = [
        (action["resource_kind"], action["resource_name"])
        for action in actions
        if action.get("environment_id", "").startswith("cut-") and action["action"] == "Create"
    ]
    assert len(made) == len(set(made))
    assert 120 - 16 <= len(made) <= 120
