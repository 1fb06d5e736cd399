"""The main job: from nothing to a complete run directory with one command."""

import json
import subprocess

import pytest

pytestmark = [pytest.mark.mainjob, pytest.mark.timeout(3600)]

OBSERVED = [
    "run.json",
    "manifest.json",
    "k8s-e2e-results.json",
    "requests.jsonl",
    "k8s/resources.json",
    "k8s/resources.txt",
    "k8s/operator-actions.json",
    "k8s/apigraphs.yaml",
    "k8s/events.txt",
    "k8s/events.jsonl",
    "k8s/pod-descriptions.txt",
    "k8s/logs-operator.txt",
    "k8s/logs-registry.txt",
    "k8s/history.jsonl",
    "traces.json",
    "logs/kit.jsonl",
    "logs/cluster-kube-apiserver.txt",
    "logs/cluster-kubelet.txt",
]
DERIVED = [
    "REPORT.md",
    "REPORT.html",
    "timeline.png",
    "step-summary.md",
    "pr-comment.md",
    "junit.xml",
    "findings.json",
    "trace-analysis.json",
    "timeline.json",
    "k8s/timeline.txt",
    "scenarios/users-products/report.md",
    "scenarios/petstore/report.md",
    "derived.json",
]
STAGES = ["deploy", "test", "collect", "trace-analysis", "report"]


def test_the_main_job_passes(main_job):
    """The run exits 0 and its report says so."""
    assert main_job.code == 0, main_job.output[-4000:]
    assert "passed" in main_job.first_screen
    assert [stage["status"] for stage in main_job.json("run.json")["stages"]] == ["passed"] * 5


@pytest.mark.parametrize("path", [*OBSERVED, *DERIVED])
def test_the_run_directory_is_complete(main_job, path):
    """Every file of the artifact map is there and holds something."""
    assert (main_job.path / path).stat().st_size > 0


@pytest.mark.parametrize("stage", STAGES)
def test_each_stage_left_its_notebook(main_job, stage):
    """Each stage's executed notebook is there in three forms."""
    for suffix in ("ipynb", "md", "html"):
        assert (main_job.path / "notebooks" / f"{stage}.{suffix}").stat().st_size > 0


def test_the_operator_made_what_was_published(main_job):
    """The recorded actions hold the three resources of both components, their update and their rollback."""
    actions = main_job.json("k8s/operator-actions.json")["actions"]
    made = {(row["resource_kind"], row["resource_name"]) for row in actions if row["action"] == "Create"}
    for component in ("users", "products"):
        assert {("ConfigMap", f"cm-{component}"), ("Service", f"svc-{component}")} <= made
        assert ("Deployment", f"deploy-{component}") in made
    updates = [row for row in actions if row["action"] == "Update" and row["resource_name"] == "deploy-users"]
    assert len(updates) >= 2


def test_one_trace_crosses_gateway_orchestrator_and_petstore(main_job):
    """Some trace holds spans of all three services."""
    crossing = [
        {process["serviceName"] for process in trace["processes"].values()}
        for trace in main_job.json("traces.json")["data"]
    ]
    assert any({"gateway", "orchestrator", "petstore"} <= services for services in crossing)


def test_every_request_is_remembered_with_its_trace(main_job):
    """Each request the kit sent has a W3C traceparent of its own."""
    rows = [json.loads(line) for line in (main_job.path / "requests.jsonl").read_text().splitlines()]
    parents = [row["traceparent"] for row in rows]
    assert len(parents) == len(set(parents)) > 20
    assert all(
        parent.startswith("00-") and row["trace_id"] in parent for parent, row in zip(parents, rows, strict=True)
    )


def test_screenshots_are_pictures_of_the_console(main_job):
    """There are PNG screenshots with their text beside them."""
    shots = sorted((main_job.path / "screenshots").glob("*.png"))
    assert shots
    assert all(shot.read_bytes().startswith(b"\x89PNG") for shot in shots)
    assert all(shot.with_suffix(".json").exists() for shot in shots)


def test_a_healthy_run_has_no_findings(main_job):
    """Nothing is wrong, so nothing is said at warning or above."""
    found = main_job.json("findings.json").get("findings", [])
    assert [row["title"] for row in found if row["severity"] != "info"] == []


def test_the_report_is_made_from_the_run_directory_alone(main_job, kit):
    """Writing the reports again, with no cluster left, gives the same bytes."""
    names = ["REPORT.md", "REPORT.html", "timeline.png", "timeline.json", "findings.json", "junit.xml", "derived.json"]
    before = {name: (main_job.path / name).read_bytes() for name in names}
    assert kit("report", main_job.path).returncode == 0
    assert {name: (main_job.path / name).read_bytes() == content for name, content in before.items()} == dict.fromkeys(
        names, True
    )


def test_no_credentials_are_in_the_run_directory(main_job):
    """No kubeconfig, private key or token is written into the run directory."""
    patterns = ["client-key-data", "PRIVATE KEY-----", "eyJhbGciOiJSUzI1NiIs"]
    for pattern in patterns:
        found = subprocess.run(
            ["grep", "-rlF", "-e", pattern, str(main_job.path)], capture_output=True, text=True, check=False
        )
        assert found.stdout == ""
