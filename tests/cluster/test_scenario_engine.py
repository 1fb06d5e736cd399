"""Scenario steps on live objects of a real cluster: what passes, what does not, what is said, and how soon."""

import base64
import re

import pytest

from k8s_e2e.base import journal
from k8s_e2e.base.files import Lines
from k8s_e2e.model.layout import RunDir
from k8s_e2e.model.profile import Profile, ServicePort, Station, StationObjects
from k8s_e2e.model.settings import Settings
from k8s_e2e.platform.http import Requester
from k8s_e2e.platform.kube import Kube
from k8s_e2e.platform.portforward import PortForwards
from k8s_e2e.scenarios import engine, loader

pytestmark = pytest.mark.cluster

LABELS = {"app": "${name}"}
CHAIN = (
    Station(
        name="Deployment", objects=StationObjects(api_version="apps/v1", kind="Deployment", selector=LABELS), ok="@"
    ),
    Station(
        name="Pod", objects=StationObjects(api_version="v1", kind="Pod", selector=LABELS), ok="status.phase=='Running'"
    ),
)
TEMPLATES = """
templates:
  deployment:
    required: [name]
    defaults: {image: "registry.k8s.io/pause:3.9", policy: IfNotPresent, version: "1", replicas: 1}
    steps:
      - name: apply ${name}
        apply:
          apiVersion: apps/v1
          kind: Deployment
          metadata: {name: "${name}", labels: {app: "${name}"}}
          spec:
            replicas: ${replicas}
            selector: {matchLabels: {app: "${name}"}}
            template:
              metadata: {labels: {app: "${name}"}}
              spec:
                terminationGracePeriodSeconds: 0
                containers:
                  - name: main
                    image: ${image}
                    imagePullPolicy: ${policy}
                    env: [{name: VERSION, value: "${version}"}]
"""


@pytest.fixture
def play(cluster, namespace, tmp_path):
    """Return a function that runs the text of a scenario in a fresh namespace and returns its result."""
    (tmp_path / "words.yaml").write_text(TEMPLATES)
    profile = Profile(
        root=tmp_path,
        name="p",
        overlay="o",
        namespace=namespace,
        services=(ServicePort(name="web", port=80),),
        chain=CHAIN,
    )
    run = RunDir(tmp_path / "run")
    lines = Lines(run.requests)

    def play(text, namespace=namespace, progress=print):
        path = tmp_path / "one.yaml"
        path.write_text(f"name: one\nuse: [words.yaml]\n{text}")
        with Kube.connect(cluster.kubeconfig, cluster.context) as kube, PortForwards(cluster, namespace) as forwards:
            context = engine.Context(
                kube=kube,
                requester=Requester(forwards, profile, lines),
                forwards=forwards,
                kubectl=cluster.kubectl,
                cluster=cluster,
                namespace=namespace,
                profile=profile,
                run=run,
                run_id="run-1",
                settings=Settings(step_timeout_s=60),
            )
            return engine.run(loader.load([str(path)], profile), context, progress).scenarios[0]

    yield play
    lines.close()


def statuses(scenario):
    """Return the status of each step, and the message of the first that failed."""
    failed = [step.message for step in [*scenario.steps, *scenario.cleanup] if step.status == "failed"]
    return [step.status for step in scenario.steps], failed[:1]


AVAILABLE = "assert: {apiVersion: apps/v1, kind: Deployment, metadata: {name: web}, status: {availableReplicas: 1}}"


def test_a_deployment_is_applied_updated_and_deleted(play):
    """Each assert waits for the rollout it is about; absence is waited for, too; cleanup takes what is gone already."""
    scenario = play(
        "steps:\n"
        "  - deployment: {name: web}\n"
        f"  - {AVAILABLE}\n    capture: {{uid: metadata.uid, revision: metadata.generation}}\n"
        "  - deployment: {name: web, version: '2'}\n"
        "  - assert:\n      apiVersion: apps/v1\n      kind: Deployment\n      metadata: {name: web, uid: '${uid}'}\n"
        "      spec: {template: {spec: {containers: [{name: main, env: [{value: '2'}]}]}}}\n"
        "    where: metadata.generation > `${revision}`\n"
        "  - assert: {apiVersion: v1, kind: Pod, metadata: {labels: {app: web}}, status: {phase: Running}}\n"
        "    count: 1\n"
        "  - wait: {object: {apiVersion: apps/v1, kind: Deployment, name: web}, until: status.readyReplicas == `1`}\n"
        "  - delete: {apiVersion: apps/v1, kind: Deployment, metadata: {labels: {app: web}}}\n"
        "  - assert: {apiVersion: apps/v1, kind: Deployment, metadata: {name: web}}\n    absent: true\n"
        "  - assert: {apiVersion: v1, kind: Pod, metadata: {labels: {app: web}}}\n    absent: true\n    for: 500ms\n"
        "cleanup:\n  - delete: {apiVersion: apps/v1, kind: Deployment, metadata: {name: web}}\n"
    )
    assert statuses(scenario) == (["passed"] * 9, [])
    assert scenario.cleanup[0].message == "there is no Deployment web to delete"
    assert scenario.steps[3].actual["metadata"]["uid"] == scenario.captures["uid"]


def test_a_state_that_passes_by_in_mid_rollout_is_not_accepted(play):
    """While one pod replaces another there are two replicas, which no assert of two may take for the truth."""
    scenario = play(
        "steps:\n"
        "  - deployment: {name: web}\n"
        f"  - {AVAILABLE}\n"
        "  - deployment: {name: web, version: '2'}\n"
        "  - assert: {apiVersion: apps/v1, kind: Deployment, metadata: {name: web}, status: {replicas: 2}}\n"
        "    timeout: 5s\n"
    )
    assert statuses(scenario)[0] == ["passed", "passed", "passed", "failed"]
    assert "waited 5 s for Deployment web" in scenario.steps[3].message


def test_an_image_that_is_not_there_ends_the_wait_and_is_named(play):
    """The reason is in the message, the pod's station is where the chain stopped, and nobody waits for a minute."""
    scenario = play(
        "vars: {name: web}\n"
        "steps:\n"
        "  - deployment: {name: web, image: 'nowhere.example/none:1', policy: Never}\n"
        f"  - {AVAILABLE}\n"
    )
    step = scenario.steps[1]
    assert step.status == "failed"
    assert step.duration_s < 15
    assert re.match(r"Deployment web: 0/1 available: pod web-\S+ is ErrImageNeverPull", step.hopeless)
    assert step.message.startswith("hopeless after ")
    assert re.match(r"Pod: pod web-\S+ is ErrImageNeverPull: .* \(passed: Deployment\)", step.stuck_at)
    assert "-  availableReplicas: 1" in step.diff


def test_without_fail_fast_a_hopeless_state_is_waited_out(play):
    """Whoever knows better can wait on."""
    scenario = play(
        "steps:\n"
        "  - deployment: {name: web, image: 'nowhere.example/none:1', policy: Never}\n"
        f"  - {AVAILABLE}\n    fail_fast: false\n    timeout: 4s\n"
    )
    assert (scenario.steps[1].status, scenario.steps[1].hopeless) == ("failed", "")
    assert scenario.steps[1].duration_s >= 4


def test_a_quota_that_forbids_every_pod_ends_the_wait_and_is_named(play):
    """There is no pod that could say so: the Deployment's own condition does."""
    scenario = play(
        "steps:\n"
        "  - apply: {apiVersion: v1, kind: ResourceQuota, metadata: {name: none}, spec: {hard: {pods: '0'}}}\n"
        "  - wait: {object: {apiVersion: v1, kind: ResourceQuota, name: none}, until: status.hard.pods == '0'}\n"
        "  - deployment: {name: web}\n"
        f"  - {AVAILABLE}\n"
    )
    step = scenario.steps[3]
    assert "exceeded quota" in step.hopeless
    assert step.duration_s < 20


def test_the_nearest_object_is_named_when_none_has_the_name(play):
    """A misspelt name is found by what is there."""
    scenario = play(
        "steps:\n"
        "  - apply: {apiVersion: v1, kind: ConfigMap, metadata: {name: words-one}, data: {a: '1'}}\n"
        "  - apply: {apiVersion: v1, kind: ConfigMap, metadata: {name: other}, data: {a: '1'}}\n"
        "  - assert: {apiVersion: v1, kind: ConfigMap, metadata: {name: word-one}, data: {a: '1'}}\n"
        "    timeout: 0s\n"
    )
    step = scenario.steps[2]
    assert "there is no ConfigMap word-one; nearest: ConfigMap words-one" in step.message
    assert "+  name: words-one" in step.diff


def test_what_differs_is_named_with_expected_and_actual(play):
    """The live object's values are laid beside those that were asked for."""
    scenario = play(
        "steps:\n"
        "  - apply: {apiVersion: v1, kind: ConfigMap, metadata: {name: words}, data: {a: '1', b: '2'}}\n"
        "  - assert: {apiVersion: v1, kind: ConfigMap, metadata: {name: words}, data: {a: '2', b: null}}\n"
        "    timeout: 300ms\n"
    )
    step = scenario.steps[1]
    words = 'ConfigMap words: data.a is "1", expected "2"; data.b is "2", expected nothing'
    assert step.last_seen == words
    assert step.actual == {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "words"},
        "data": {"a": "1", "b": "2"},
    }


def test_a_kind_that_the_server_does_not_know_is_neither_there_nor_absent(play):
    """A misspelt kind must not make an absence come true."""
    wrong = "assert: {apiVersion: apps/v1, kind: Deploymint, metadata: {name: web}}"
    scenario = play(f"steps:\n  - {{{wrong}, absent: true, timeout: 500ms}}\n")
    assert scenario.steps[0].status == "failed"
    assert "the server serves no Deploymint in apps/v1" in scenario.steps[0].message


def test_a_refusal_of_the_api_server_can_be_expected(play):
    """The server's own words are compared."""
    bad = "apply: {apiVersion: v1, kind: ConfigMap, metadata: {name: Bad_Name}}"
    scenario = play(f"steps:\n  - {{{bad}, expect_failure: RFC 1123 subdomain}}\n  - {bad}\n")
    assert statuses(scenario)[0] == ["passed", "failed"]


def test_nothing_to_delete_fails_a_step(play):
    """Only cleanup may find its work done."""
    scenario = play("steps:\n  - delete: {apiVersion: v1, kind: ConfigMap, metadata: {name: none}}\n")
    assert scenario.steps[0].message == "there is no ConfigMap none to delete"
    assert scenario.steps[0].status == "failed"


def test_values_of_secrets_do_not_reach_the_run_directory(play, tmp_path):
    """Not when they are applied, compared, waited for or captured, however short; nor by what is said meanwhile."""
    secret = "apiVersion: v1, kind: Secret, metadata: {name: s}"
    wait = f"wait: {{object: {{{secret.replace('metadata: {name: s}', 'name: s')}}}"
    text = (
        "steps:\n"
        f"  - apply: {{{secret}, stringData: {{word: open-sesame-1, pin: '7351', user: somebody}}}}\n"
        f"    capture: {{at_once: data.pin}}\n"
        f"  - {wait}, until: data.word}}\n    capture: {{pin: data.pin, name: metadata.name}}\n"
        f"  - assert: {{{secret}, data: {{pin: '${{pin}}'}}}}\n    capture: {{user: data.user}}\n"
        f"  - assert: {{{secret}, data: {{word: '${{at_once}}', pin: bm8=, user: '${{pin}}'}}}}\n    timeout: 0.2s\n"
        f"cleanup:\n  - {wait}, until: data.none, timeout: 0.2s}}\n"
        f"  - {wait}, until: data.none, show: '[data.word, data.pin, data.user]', timeout: 0.2s}}\n"
    )
    with journal.opened(tmp_path / "run/logs/kit.jsonl"):
        scenario = play(text, progress=journal.progress)
    assert [step.status for step in scenario.steps] == ["passed", "passed", "passed", "failed"]
    failed = scenario.steps[3]
    assert failed.actual["data"]["pin"] == scenario.captures["pin"] == scenario.captures["at_once"]
    assert failed.actual["data"]["pin"] != failed.expected["data"]["pin"]
    assert scenario.captures["name"] == "s"
    written = {path: path.read_text() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert "[redacted:s/pin:" in written[tmp_path / "run/logs/kit.jsonl"]
    values = ["open-sesame-1", "7351", "somebody"]
    plain = [*values, *(base64.b64encode(value.encode()).decode() for value in values)]
    assert [(path.name, value) for path, found in written.items() for value in plain if value in found] == []


def test_a_command_runs_in_a_container(play):
    """Output and exit code are judged; a program that is not there is a failure with kubectl's words."""
    dns = "selector: {k8s-app: kube-dns}"
    scenario = play(
        f"steps:\n  - {{exec: {{{dns}, command: [/coredns, -version]}}, expect: {{stdout: CoreDNS-1}}}}\n"
        f"  - {{exec: {{{dns}, command: [/nowhere]}}}}\n",
        namespace="kube-system",
    )
    assert statuses(scenario)[0] == ["passed", "failed"]
    assert "/nowhere" in scenario.steps[1].message


def test_an_assert_survives_a_watch_that_is_cut(play, monkeypatch):
    """A watch only says when to look: without any event the next look comes all the same."""

    class Cut:
        def __iter__(self):
            return iter(())

        def close(self):
            """Nothing to close."""

    monkeypatch.setattr(Kube, "watch", lambda *_, **__: Cut())
    scenario = play(f"steps:\n  - deployment: {{name: web}}\n  - {AVAILABLE}\n")
    assert statuses(scenario) == (["passed", "passed"], [])


def test_a_container_that_crashes_is_not_taken_for_available_and_is_named(play):
    """Without a probe it is available for a moment each time; it does not stay so, and three crashes are enough."""
    scenario = play(
        "steps:\n"
        "  - apply:\n"
        "      apiVersion: apps/v1\n"
        "      kind: Deployment\n"
        "      metadata: {name: web}\n"
        "      spec:\n"
        "        selector: {matchLabels: {app: web}}\n"
        "        template:\n"
        "          metadata: {labels: {app: web}}\n"
        "          spec: {containers: [{name: main, image: 'registry.k8s.io/coredns/coredns:v1.14.2', args: [-bad]}]}\n"
        f"  - {AVAILABLE}\n    for: 3s\n    timeout: 90s\n"
    )
    step = scenario.steps[1]
    assert step.status == "failed"
    assert re.search(r"container main ended with exit code \d+.* restarted \d times", step.hopeless)
    assert step.duration_s < 75
