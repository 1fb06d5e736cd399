"""Each rule fires on the run that shows its fault, points at lines that prove it, and is silent on a healthy run."""

import json

import pytest

from k8s_e2e.base import files
from k8s_e2e.diagnosis import diagnose
from k8s_e2e.diagnosis.facts import Facts
from k8s_e2e.diagnosis.observed import Observed
from k8s_e2e.model.evidence import Manifest, SealedFile
from k8s_e2e.model.run import ImageRecord
from k8s_e2e.model.story import Finding, Findings
from tests.unit import run_builder as made


def found(builder: made.RunBuilder) -> Findings:
    """Write the run and diagnose it."""
    return diagnose(builder.write())


def top(builder: made.RunBuilder) -> Finding:
    """Return the best explanation of the run."""
    return found(builder).findings[0]


def proof(builder: made.RunBuilder, finding: Finding) -> str:
    """Return the text of every line that the finding's pointers name."""
    text = ""
    for pointer in finding.evidence:
        file, _, line = pointer.partition("#L")
        if line:
            text += builder.run.path(file).read_text("utf-8").splitlines()[int(line) - 1]
    return text


def test_a_healthy_run_has_no_finding(tmp_path):
    """A run that passed says nothing, although probes failed at start and a graph was not ready at first."""
    assert found(made.green(tmp_path)) == Findings()


def test_findings_are_written_and_the_same_each_time(tmp_path):
    """findings.json holds what was returned, byte for byte the same when worked out again."""
    builder = made.red_image(tmp_path)
    first = found(builder)
    written = builder.run.findings.read_bytes()
    assert json.loads(written)["findings"][0]["id"] == first.findings[0].id
    diagnose(builder.run)
    assert builder.run.findings.read_bytes() == written


def test_image_that_does_not_exist(tmp_path):
    """The image is named with who asks for it; the test's data is at fault when a custom resource declares it."""
    builder = made.red_image(tmp_path)
    finding = top(builder)
    assert finding.id == "image-absent:Deployment/deploy-users"
    assert (finding.severity, finding.fault) == ("error", "data")
    assert "example.test/users:nope" in finding.title
    assert finding.because[0].startswith("step users/02")
    assert finding.because[-1] == finding.title
    assert any("APIGraph/env-1 asks for the image" in link for link in finding.because)
    assert "manifest unknown" in proof(builder, finding)


def test_one_cause_swallows_its_symptoms(tmp_path):
    """Rollout, custom resource and step are links of the cause's chain, not findings beside it."""
    findings = found(made.red_image(tmp_path)).findings
    assert [finding.id for finding in findings] == ["image-absent:Deployment/deploy-users"]
    assert any("Deployment/deploy-users is not available" in link for link in findings[0].because)


def test_image_that_was_never_loaded(tmp_path):
    """A loaded image that the node does not have is the infrastructure's fault, and the deploy stage names no step."""
    builder = made.RunBuilder(tmp_path)
    builder.stage("deploy", 0, 60, "failed", "waited 60 s for rollout; last seen: registry 0/1", exit_code=1)
    builder.stage("test", 60, 0, "skipped")
    builder.record.images = [ImageRecord("turbo-engine/registry:e2e")]
    deployment = builder.deployment(10, "registry", available=0, image="turbo-engine/registry:e2e")
    rs = builder.replica_set(10, "registry-5c", deployment)
    waiting = {"waiting": {"reason": "ErrImageNeverPull", "message": "Container image is not present with pull policy"}}
    builder.pod(11, "registry-5c-x", owner=rs, image="turbo-engine/registry:e2e", state=waiting)
    finding = top(builder)
    assert finding.id == "image-never:Deployment/registry"
    assert finding.fault == "infrastructure"
    assert finding.because[0].startswith("stage deploy: waited 60 s")


def test_crash_names_its_last_words(tmp_path):
    """The exception in the crashed container's log is the title, its line the evidence."""
    builder = made.red_crash(tmp_path)
    finding = top(builder)
    assert finding.id == "crash:Deployment/deploy-users/main"
    assert finding.title.endswith("KeyError: 'DATABASE_URL'")
    assert "KeyError: 'DATABASE_URL'" in proof(builder, finding)
    assert finding.next_command == "tail -n 40 k8s/logs/deploy-users-9a-c3/main.previous.txt"


def test_a_crash_loop_without_a_probe_is_found_after_its_deletion(tmp_path):
    """A container that is ready for a moment at each start, and whose pod is deleted in the end, still crashed."""
    builder = made.green(tmp_path)
    deployment = builder.deployment(50, "shop", available=0)
    rs = builder.replica_set(50, "shop-1", deployment)
    for second, restarts in ((51, 0), (53, 1)):
        ended = {"terminated": {"exitCode": 2, "reason": "Error", "finishedAt": made.at(second + 1)[:19] + "Z"}}
        builder.pod(second, "shop-1-a", owner=rs, ready=True, restarts=restarts)
        builder.pod(second + 1.1, "shop-1-a", owner=rs, state=ended, restarts=restarts)
    pod = builder.pod(72, "shop-1-a", owner=rs, state=ended, restarts=1)
    pod["metadata"]["deletionTimestamp"] = made.at(72)
    builder.object(73, pod)
    builder.object(74, pod, "DELETED")
    made.fail(builder, hopeless="Deployment shop: container main ended with exit code 2")
    finding = top(builder)
    assert (finding.id, finding.severity) == ("crash:Deployment/shop/main", "error")


def test_a_container_that_came_back_is_no_cause(tmp_path):
    """A single restart that was over before the step failed is information, and the step is told as not explained."""
    builder = made.green(tmp_path)
    deployment = builder.deployment(32, "shop", available=0)
    rs = builder.replica_set(32, "shop-1", deployment)
    ended = {"terminated": {"exitCode": 1, "reason": "Error", "finishedAt": made.at(34)}}
    builder.pod(34.5, "shop-1-a", owner=rs, last=ended, restarts=1)
    builder.pod(36, "shop-1-a", owner=rs, last=ended, restarts=1, ready=True)
    builder.deployment(36, "shop", available=1)
    made.fail(builder, last_seen="shop says Building")
    assert [(finding.id.split(":")[0], finding.severity) for finding in found(builder).findings] == [
        ("step", "error"),
        ("crash", "info"),
    ]


def test_out_of_memory(tmp_path):
    """A container killed for memory is told apart from one that crashed."""
    builder = made.green(tmp_path)
    deployment = builder.deployment(50, "hungry", available=0)
    rs = builder.replica_set(50, "hungry-1", deployment)
    killed = {"terminated": {"exitCode": 137, "reason": "OOMKilled", "finishedAt": made.at(55)}}
    loop = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}}
    builder.pod(50, "hungry-1-a", owner=rs, change="ADDED")
    builder.pod(55, "hungry-1-a", owner=rs, state=loop, last=killed, restarts=3)
    made.fail(builder, last_seen="Deployment/hungry 0 of 1")
    assert top(builder).id == "oom:Deployment/hungry/main"


def test_a_container_that_was_asked_to_stop_has_not_crashed(tmp_path):
    """Exit codes of a pod that is being deleted are no finding, even when the run failed for another reason."""
    builder = made.green(tmp_path)
    pod = builder.pod(50, "gone-1", ready=True)
    pod["metadata"]["deletionTimestamp"] = made.at(60)
    pod["status"]["containerStatuses"][0]["state"] = {
        "terminated": {"exitCode": 143, "reason": "Error", "finishedAt": made.at(61)}
    }
    builder.object(61, pod)
    builder.object(62, pod, "DELETED")
    made.fail(builder, last_seen="something else")
    assert not any("gone-1" in finding.title for finding in found(builder).findings)


def test_operator_without_permission(tmp_path):
    """A denial is found in the log, named with verb, resource and account, and explains what was never made."""
    builder = made.red_rbac(tmp_path)
    findings = found(builder).findings
    assert [finding.id for finding in findings] == ["rbac:ServiceAccount/operator"]
    assert findings[0].title == "ServiceAccount/operator may not create deployments.apps"
    assert "is forbidden" in findings[0].detail
    assert "cannot create resource" in proof(builder, findings[0])


@pytest.mark.parametrize("field", ["message", "hopeless"])
def test_the_run_s_own_account_without_permission(tmp_path, field):
    """A step that the API server refused is no fault of the platform; what its operator was refused is another."""
    builder = made.red_rbac(tmp_path)
    builder.record.parameters = {"scenarios": ["users"]}
    refused = (
        "Cabinet/tall was refused: PATCH /apis/acme.io/v1/namespaces/acme/cabinets/tall: 403 Forbidden: "
        'cabinets "tall" is forbidden: User "system:serviceaccount:acme:kit" cannot patch resource "cabinets" '
        'in API group "acme.io" in the namespace "acme"'
    )
    setattr(builder.results.scenarios[0].steps[1], field, refused)
    findings = {finding.id: finding for finding in found(builder).findings}
    own = findings["own-account:system:serviceaccount:acme:kit"]
    assert own.fault == "infrastructure"
    assert own.title.endswith("system:serviceaccount:acme:kit, may not patch cabinets.acme.io")
    assert own.detail.startswith("Cabinet/tall was refused: PATCH")
    assert "--as" not in own.next_command
    assert own.fix == "grant it: `./e2e permissions --account acme/kit --scenarios users` prints the Role"
    assert own.evidence == ["k8s-e2e-results.json#users/02"]
    assert next(iter(findings)) == own.id
    assert "rbac:ServiceAccount/kit" not in findings
    assert findings["rbac:ServiceAccount/operator"].fault == "product"


def test_missing_config_map(tmp_path):
    """A pod that waits for a ConfigMap names it."""
    builder = made.green(tmp_path)
    waiting = {"waiting": {"reason": "CreateContainerConfigError", "message": 'configmap "cm-users" not found'}}
    builder.pod(50, "lonely-1", state=waiting)
    made.fail(builder, last_seen="Pod/lonely-1")
    assert top(builder).id == "config-missing:Pod/lonely-1/ConfigMap/cm-users"


def test_unschedulable(tmp_path):
    """A pod that no node takes is found with the scheduler's own words."""
    builder = made.green(tmp_path)
    builder.pod(50, "big-1", scheduled=False)
    made.fail(builder, last_seen="Pod/big-1 Pending")
    finding = top(builder)
    assert finding.id == "unschedulable:Pod/big-1"
    assert "Insufficient cpu" in finding.title
    assert finding.fault == "infrastructure"


def test_quota_leaves_no_pod(tmp_path):
    """When no pod exists the ReplicaSet's event is the evidence."""
    builder = made.green(tmp_path)
    deployment = builder.deployment(50, "shop", available=0)
    builder.replica_set(50, "shop-1", deployment)
    builder.event(
        51, "ReplicaSet/shop-1", "FailedCreate", "pods is forbidden: exceeded quota: small, requested: pods=1"
    )
    made.fail(builder, last_seen="Deployment/shop 0 of 1")
    finding = top(builder)
    assert finding.id == "quota:Deployment/shop"
    assert "exceeded quota" in proof(builder, finding)


def test_probe_that_never_passes(tmp_path):
    """A running pod that is never ready is explained by its probe."""
    builder = made.green(tmp_path)
    deployment = builder.deployment(50, "slow", available=0)
    rs = builder.replica_set(50, "slow-1", deployment)
    builder.pod(51, "slow-1-a", owner=rs, state={"running": {}})
    builder.event(
        60, "Pod/slow-1-a", "Unhealthy", "Readiness probe failed: HTTP probe failed with statuscode: 500", count=9
    )
    made.fail(builder, last_seen="Deployment/slow 0 of 1")
    assert top(builder).id == "probe-readiness:Deployment/slow"


def test_a_container_killed_for_its_probe_has_not_crashed(tmp_path):
    """Exit code 137 after "failed liveness probe, will be restarted" is a finding about the probe."""
    builder = made.green(tmp_path)
    deployment = builder.deployment(50, "slow", available=0)
    rs = builder.replica_set(50, "slow-1", deployment)
    killed = {"terminated": {"exitCode": 137, "reason": "Error", "finishedAt": made.at(62)}}
    builder.pod(63, "slow-1-a", owner=rs, state={"running": {}}, last=killed, restarts=4)
    builder.event(60, "Pod/slow-1-a", "Unhealthy", "Liveness probe failed: connection refused", count=3)
    builder.event(61, "Pod/slow-1-a", "Killing", "Container main failed liveness probe, will be restarted", "Normal")
    made.fail(builder, last_seen="Deployment/slow 0 of 1")
    assert [finding.id for finding in found(builder).findings] == ["probe-liveness:Deployment/slow"]


def test_a_denial_explains_the_crash_and_the_probe_of_its_controller(tmp_path):
    """An operator that ends, or is never ready, because it may do nothing is one finding: the denial."""
    builder = made.red_rbac(tmp_path)
    rs = {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {"name": "operator-5c", "uid": "uid-ReplicaSet-operator-5c"},
    }
    ended = {"terminated": {"exitCode": 1, "reason": "Error", "finishedAt": made.at(20)}}
    loop = {"waiting": {"reason": "CrashLoopBackOff", "message": ""}}
    builder.pod(21, "operator-5c-x1", owner=rs, state=loop, last=ended, restarts=5, account="operator")
    builder.event(16, "Pod/operator-5c-x1", "Unhealthy", "Startup probe failed: connection refused")
    builder.results.scenarios[0].steps[1].last_seen = "Deployment/operator is not available"
    assert [finding.id for finding in found(builder).findings] == ["rbac:ServiceAccount/operator"]


def test_a_dependency_explains_the_crash_of_its_user(tmp_path):
    """Builder crashes because registry does: one finding, and the user's crash is in its chain."""
    builder = made.green(tmp_path)
    loop = {"waiting": {"reason": "CrashLoopBackOff", "message": ""}}
    for second, name, env in ((50, "store", {}), (52, "user", {"STORE_URL": "http://store:8081"})):
        deployment = builder.deployment(second, name, available=0)
        rs = builder.replica_set(second, f"{name}-1", deployment)
        ended = {"terminated": {"exitCode": 1, "reason": "Error", "finishedAt": made.at(second + 1)}}
        builder.pod(
            second + 1, f"{name}-1-a", owner=rs, state=loop, last=ended, restarts=4, env=env, labels={"app": name}
        )
        service = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name},
            "spec": {"selector": {"app": name}},
        }
        builder.object(50, service)
    made.fail(builder, last_seen="Deployment/user 0 of 1")
    causes = [finding for finding in found(builder).findings if finding.severity == "error"]
    assert [finding.id for finding in causes] == ["crash:Deployment/store/main"]
    assert any("Deployment/user" in link for link in causes[0].because)


def test_a_dependency_explains_the_rollout_of_its_user(tmp_path):
    """A Deployment that waits for a service whose image is absent is in the chain, though its rollout began earlier."""
    builder = made.red_image(tmp_path)
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "users"},
        "spec": {"selector": {"app": "users"}},
    }
    builder.object(30, service)
    pod = next(row for row in reversed(builder.history) if row.name == "deploy-users-8f-q2")
    pod.object["metadata"]["labels"] = {"app": "users"}
    deployment = builder.deployment(45, "waiting", available=0)
    rs = builder.replica_set(45, "waiting-1", deployment)
    builder.pod(45, "waiting-1-a", owner=rs, state={"running": {}}, env={"USERS_URL": "http://users.ns.svc:80/x"})
    assert [finding.id for finding in found(builder).findings] == ["image-absent:Deployment/deploy-users"]


def test_a_cause_that_came_after_the_failure_is_none(tmp_path):
    """What began after the failing step was over, and has nothing to do with it, is a warning at most."""
    builder = made.red_image(tmp_path)
    ended = {"terminated": {"exitCode": 1, "reason": "Error", "finishedAt": made.at(88)}}
    builder.pod(88, "late-1", state=ended, restarts=5)
    findings = found(builder).findings
    assert [(finding.id.split(":")[0], finding.severity) for finding in findings] == [
        ("image-absent", "error"),
        ("crash", "warning"),
    ]


def test_no_answer_from_a_healthy_service_is_the_harness(tmp_path):
    """A request without answer, with a ready pod behind the service, points at the port-forward."""
    builder = made.green(tmp_path)
    made.fail(builder)
    builder.results.scenarios[0].steps[1].kind = "http"
    builder.requests.append(made.request(55, "users/02", "registry", 0, "connection reset"))
    finding = top(builder)
    assert finding.id == "no-answer:Service/registry"
    assert finding.fault == "harness"


def test_an_unexplained_failure_says_so(tmp_path):
    """Without evidence of a cause the finding says what is known, and that no rule explains it."""
    builder = made.green(tmp_path)
    made.fail(builder, last_seen="phase Building")
    finding = top(builder)
    assert (finding.id, finding.fault) == ("step:users/02", "unknown")
    assert "No rule found" in finding.detail


@pytest.mark.parametrize(
    ("code", "rule", "fault"),
    [(3, "environment", "infrastructure"), (4, "watchdog", "harness"), (5, "kernel-died", "infrastructure")],
)
def test_a_deploy_that_never_applied_anything(tmp_path, code, rule, fault):
    """A failed stage is found with its own error line, and the platform is not blamed."""
    builder = made.RunBuilder(tmp_path)
    builder.stage("deploy", 0, 5, "failed", "cannot build turbo-engine/registry:e2e", exit_code=code)
    finding = top(builder)
    assert (finding.id, finding.fault) == (f"{rule}:deploy", fault)
    assert "cannot build turbo-engine/registry:e2e" in finding.title


def test_a_run_cut_short_is_no_defect_of_the_product(tmp_path):
    """A run stopped from outside names the signal, blames nobody, and says how to get what is missing."""
    builder = made.green(tmp_path)
    builder.record.parameters = {"run_dir": "/runs/my run"}
    builder.stage("test", 30, 20, "interrupted", "stopped by SIGTERM", exit_code=143)
    finding = top(builder)
    assert (finding.id, finding.fault) == ("interrupted:test", "unknown")
    assert finding.title == "The run was stopped from outside (signal 15, SIGTERM) during stage test"
    assert finding.next_command == "./e2e run --from collect --run-dir '/runs/my run'"


@pytest.mark.parametrize(
    ("error", "sealed", "command"),
    [
        ("cannot build acme/api:e2e", ["logs/build-api.txt", "logs/build-db.txt"], "tail -n 40 logs/build-api.txt"),
        ("the node is not ready", ["logs/build-api.txt", "logs/cluster-kubelet.txt"],
         "grep -inE 'error|fail' logs/cluster-*.txt | tail -n 40"),
        ("images are not usable", ["logs/build-api.txt"], "tail -n 60 notebooks/deploy.md"),
    ],
)  # fmt: skip
def test_next_names_a_log_that_is_there(tmp_path, error, sealed, command):
    """After a failed environment the next command reads a log that this run has."""
    builder = made.RunBuilder(tmp_path)
    builder.stage("deploy", 0, 5, "failed", error, exit_code=3)
    run = builder.write()
    files.write_json(run.manifest, Manifest(files=[SealedFile(path=path, sha256="0", bytes=1) for path in sealed]))
    assert diagnose(run).findings[0].next_command == command


def test_a_wrong_value_after_a_passed_chain_is_what_is_told(tmp_path):
    """When every station was passed, the finding says which value differs, not where the chain stopped."""
    builder = made.green(tmp_path)
    differs = 'ConfigMap cm-hello: data.GREETING is "hi", expected "ho"'
    made.fail(builder, last_seen=differs, stuck_at="nowhere: passed publish, build, Ready")
    assert differs in top(builder).title
    assert "nowhere" not in top(builder).title


def test_last_lines_of_history_may_be_cut_or_foreign(tmp_path):
    """A half-written line and invalid UTF-8 are blind spots; the rest is diagnosed all the same."""
    builder = made.red_image(tmp_path)
    run = builder.write()
    with run.history.open("ab") as stream:
        stream.write(b'\xff\xfe{"seen": 1}\n{"seen": "2026')
    result = diagnose(run)
    assert result.findings[0].id == "image-absent:Deployment/deploy-users"
    assert any("k8s/history.jsonl" in spot and "2 unreadable" in spot for spot in result.blind_spots)


def test_a_missed_container_run_is_a_blind_spot(tmp_path):
    """A log header that ends in `missed` is told."""
    builder = made.red_image(tmp_path)
    run = builder.write()
    with (run.pod_logs / "registry-5c-x1" / "main.txt").open("a") as stream:
        stream.write("==> registry-5c-x1/main run=3 uid=u missed <==\n")
    facts = Facts(Observed(run))
    assert facts.last_words("registry-5c-x1", "main")
    assert any("run 3 of main" in why for why in facts.observed.blind_spots.values())
