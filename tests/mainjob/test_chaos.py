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
    """All of it is repaired, and a killed operator is no finding once its successor has done its work."""
    assert ran.code == 0, ran.output[-4000:]
    assert "# PASSED" in ran.first_screen
    assert ran.json("findings.json").get("findings", []) == []


def test_the_repairs_are_among_the_operators_actions(ran):
    """Of both pods, the killed one included: what each repaired, and what the second one completed."""
    done = [action for action in ran.json("k8s/operator-actions.json")["actions"] if action["outcome"] == "ok"]
    pods = list(dict.fromkeys(action["pod"] for action in done))
    assert len(pods) == 2, pods

    def by(pod, verb, kind, name):
        wanted = (pod, verb, kind, name)
        return [a for a in done if (a["pod"], a["action"], a["resource_kind"], a["resource_name"]) == wanted]

    killed, successor = pods
    assert len(by(killed, "Create", "Service", "svc-payments")) == 2  # made, and made again
    assert ["spec.replicas"] in [action["fields"] for action in by(killed, "Update", "Deployment", "deploy-orders")]
    assert not by(killed, "Create", "Deployment", "deploy-invoices")
    assert len(by(successor, "Create", "Service", "svc-orders")) == 1
    assert len(by(successor, "Update", "ConfigMap", "cm-orders")) == 1
    assert len(by(successor, "Create", "Deployment", "deploy-invoices")) == 1
