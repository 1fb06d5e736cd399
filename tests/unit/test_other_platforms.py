"""A profile without traces, operator log or services is a whole profile: nothing is missed, nothing is made up."""

import json
import re
from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel

from k8s_e2e.base.errors import UsageError
from k8s_e2e.diagnosis.engine import examine
from k8s_e2e.diagnosis.facts import Facts
from k8s_e2e.diagnosis.objects import Tracked
from k8s_e2e.diagnosis.observed import Observed
from k8s_e2e.diagnosis.writes import became
from k8s_e2e.evidence import operator_actions, resources
from k8s_e2e.evidence.log_lines import LogLine, Run
from k8s_e2e.model.evidence import Action
from k8s_e2e.model.profile import OperatorSource, Profile, load_profile
from k8s_e2e.model.run import RunRecord
from k8s_e2e.platform.kube import Resource
from k8s_e2e.report.sections.outcome import again
from k8s_e2e.report.write import write_reports
from k8s_e2e.scenarios import loader
from k8s_e2e.stages.table import Table
from tests.unit.run_builder import at, fail, green

ROOT = Path(__file__).resolve().parents[2]
LEAST = 'name = "x"\noverlay = "o"\nnamespace = "n"\n'


@pytest.fixture
def bare(tmp_path):
    """A builder of a green run whose profile has neither [operator] nor [traces]."""
    builder = green(tmp_path)
    builder.record.unconfigured = ["operator", "traces"]
    return builder


def _write(builder):
    """Write the run as a collection without these parts leaves it."""
    run = builder.write()
    run.actions.unlink()
    run.traces.unlink()
    run.requests.write_text("")
    write_reports(run)
    return run, run.report.read_text()


def _managed(builder, second, name, *writers, kind="ConfigMap", generation=1):
    entries = []
    for manager, part, time in writers:
        entry = {"manager": manager, "operation": "Apply", "time": at(time)[:19] + "Z"}
        entries.append(entry | ({"subresource": part} if part else {}))
    about = {"name": name, "generation": generation, "managedFields": entries}
    version = "v1" if kind == "ConfigMap" else "acme.example/v1"
    builder.object(second, {"apiVersion": version, "kind": kind, "metadata": about})


def test_three_keys_are_a_profile(tmp_path):
    """All else has a default, and what evidence depends on is known to be left out."""
    (tmp_path / "k8s-e2e.toml").write_text(LEAST)
    assert load_profile(tmp_path / "k8s-e2e.toml").unconfigured == ["operator", "traces"]


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ('[operator]\nservice = "op"\nactions_path = "/actions"', "operator.service: 'op' is asked over HTTP"),
        (
            '[[chain]]\nname = "build"\nhttp = {service = "ci", path = "/"}\nok = "done"',
            "chain build: http.service: 'ci' is asked over HTTP, but no [[services]] has that name",
        ),
        ('[[chain]]\nname = "build"\nok = "done"', "chain.0: build: either http or objects must be given"),
    ],
)
def test_a_service_that_is_nowhere_is_told_before_the_run(tmp_path, more, told):
    """A profile that would ask a service it does not name is refused, with the key."""
    path = tmp_path / "k8s-e2e.toml"
    path.write_text(LEAST + more)
    with pytest.raises(UsageError) as caught:
        load_profile(path)
    assert caught.value.message.startswith(f"{path}: ")
    assert told in caught.value.message


def test_a_trace_step_needs_traces(tmp_path):
    """A scenario that asks for a trace is refused where the profile names no source of them."""
    (tmp_path / "scenarios").mkdir()
    (tmp_path / "scenarios" / "one.yaml").write_text("name: one\nsteps:\n  - trace: {of: x}\n")
    profile = Profile(root=tmp_path, name="x", overlay="o", namespace="n")
    with pytest.raises(UsageError, match=r"one\.yaml:3: a trace is asked for, but the project profile names no trace"):
        loader.load(["one"], profile)


def test_what_is_not_configured_is_no_blind_spot(bare):
    """Absent actions and traces are not told as lost; where they are configured, they are."""
    run = bare.write()
    run.actions.unlink()
    run.traces.unlink()
    assert examine(Facts(Observed(run))).blind_spots == []
    record = json.loads(run.run_json.read_text())
    run.run_json.write_text(json.dumps({**record, "unconfigured": []}))
    spots = examine(Facts(Observed(run))).blind_spots
    assert [spot.partition(":")[0] for spot in spots] == ["k8s/operator-actions.json", "traces.json"]


def test_the_report_says_what_was_not_configured(bare):
    """Each section has its reason in one line, and nothing empty is recommended."""
    _, text = _write(bare)
    assert "names no trace source" in text
    assert "names no log of its operator" in text
    assert "Blind spots: none; all that the profile configures was collected." in text
    assert "[requests.jsonl]" not in text
    assert "[trace-analysis.json]" not in text


def test_without_an_operator_log_the_writers_are_told(bare):
    """Managers of fields are listed with their writes, the control plane and the kit's own set-up left out."""
    _managed(bare, 40, "a", ("acme", "", 40), ("kube-controller-manager", "", 40), ("k8s-e2e", "", 40))
    _managed(bare, 40.4, "a", ("acme", "", 40))  # within the same second: no entry changes
    _managed(bare, 42, "a", ("acme", "", 42))
    _, text = _write(bare)
    assert "| `acme` | `ConfigMap/a` | 3 | object | 03:00:40 | 03:00:42 |" in text
    assert "`kube-controller-manager` | `ConfigMap/a`" not in text
    assert "`k8s-e2e` | `ConfigMap/a`" not in text


def test_a_status_and_a_spec_of_one_second_are_told_apart(bare):
    """A grown generation is a write of the object, an equal one of its status."""
    writers = (("k8s-e2e", "", 40), ("acme", "status", 40))
    _managed(bare, 40.0, "w", writers[0], kind="Widget")
    for second, generation in ((40.1, 1), (40.2, 2), (40.3, 2)):
        _managed(bare, second, "w", *writers, kind="Widget", generation=generation)
    _, text = _write(bare)
    assert "| `acme` | `Widget/w` | 2 | status |" in text
    assert "| `k8s-e2e` | `Widget/w` | 2 | object |" in text


@pytest.mark.parametrize("key", ["event", "msg", "message"])
def test_the_event_may_be_the_text_of_a_structured_log(key):
    """What slog, zap and their like write as the message marks an action as well as `event` does."""
    fields = {key: "acme.wrote", "action": "Create", "resource_kind": "ConfigMap", "resource_name": "a", "ts": 1.5}
    line = LogLine(run=Run("pod-1", "main", 0, "u"), time=at(1), text=json.dumps(fields), number=1)
    row = next(iter(operator_actions.from_logs([line], "acme.wrote").values()))
    assert (row.time, row.action, row.resource_name, row.pod) == (at(1), "Create", "a", "pod-1")


@pytest.mark.parametrize(
    ("api_version", "custom"),
    [
        ("apps/v1", False),
        ("v1", False),
        ("rbac.authorization.k8s.io/v1", False),
        ("acme.example/v1", True),
        ("kueue.x-k8s.io/v1beta1", True),
        ("gateway.networking.k8s.io/v1", True),
    ],
)
def test_custom_is_what_kubernetes_does_not_bring(api_version, custom):
    """Groups below k8s.io that are installed as CRDs are custom, too."""
    assert Tracked("u", "Kind", "name", api_version).custom is custom


@pytest.mark.parametrize(("subresources", "told"), [({"status": {}}, True), ({}, False)])
def test_a_kind_without_status_misses_none(tmp_path, subresources, told):
    """That a resource has no status is a sign only where its definition has one."""
    builder = green(tmp_path)
    names, versions = {"kind": "Widget"}, [{"name": "v1", "subresources": subresources}]
    spec = {"group": "acme.example", "names": names, "versions": versions}
    builder.object(1, {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
                       "metadata": {"name": "widgets.acme.example"}, "spec": spec})  # fmt: skip
    builder.object(45, {"apiVersion": "acme.example/v1", "kind": "Widget", "metadata": {"name": "w"}, "spec": {}})
    fail(builder, last_seen="Widget/w is not there")
    titles = [finding.title for finding in examine(Facts(Observed(builder.write()))).findings]
    assert any("Widget/w has no status" in title for title in titles) is told


def test_a_failed_phase_is_told(tmp_path):
    """An operator that says so by `status.phase`, without conditions, is heard."""
    builder = green(tmp_path)
    builder.object(45, {"apiVersion": "acme.example/v1", "kind": "Widget", "metadata": {"name": "w"}, "spec": {},
                        "status": {"phase": "Failed", "message": "no more shelves"}})  # fmt: skip
    fail(builder, last_seen="Widget/w is not there")
    titles = [finding.title for finding in examine(Facts(Observed(builder.write()))).findings]
    assert any("Widget/w is in phase Failed: no more shelves" in title for title in titles)


def test_the_command_that_runs_it_again_names_the_profile():
    """Program and profile stand in it as they were named."""
    asked = {"program": "k8s-e2e", "profile_named": "tests/my profile.toml", "cluster": "dev"}
    assert again(RunRecord(parameters=asked), None) == "k8s-e2e run --cluster dev --profile 'tests/my profile.toml'"


def _operated(tmp_path, resource):
    """A run whose step waits in vain for a Widget, while a pod crashes that may write ``resource``."""
    builder = green(tmp_path)
    spec = {"group": "acme.example", "names": {"kind": "Widget", "plural": "widgets"}, "versions": []}
    rules = [{"apiGroups": ["acme.example"], "resources": [resource], "verbs": ["patch"]}]
    account = {"kind": "ServiceAccount", "name": "acme"}
    builder.final += [
        {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
         "metadata": {"name": "widgets.acme.example", "uid": "crd"}, "spec": spec},
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "acme", "uid": "r"},
         "rules": rules},
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "acme", "uid": "b"},
         "roleRef": {"kind": "Role", "name": "acme"}, "subjects": [account]},
    ]  # fmt: skip
    builder.object(49, {"apiVersion": "acme.example/v1", "kind": "Widget", "metadata": {"name": "my-widget"}})
    ended = {"terminated": {"exitCode": 1, "reason": "Error", "startedAt": at(51), "finishedAt": at(52)}}
    builder.pod(50, "acme-1", account="acme", ready=True, change="ADDED")
    builder.pod(52, "acme-1", account="acme", state=ended, restarts=1)
    builder.log("acme-1", "Traceback (most recent call last):", "KeyError: 'books'")
    fail(builder, last_seen="Widget my-widget: status is missing")
    return [finding.id for finding in examine(Facts(Observed(builder.write()))).findings if finding.severity == "error"]


def test_a_crash_of_the_operator_explains_what_its_resource_lacks(tmp_path):
    """Whose Role may write a resource's status is its operator: its crash is the one cause of the failed step."""
    assert _operated(tmp_path, "widgets/status") == ["crash:Pod/acme-1/main"]


def test_a_crash_of_somebody_else_does_not(tmp_path):
    """A pod that has no say in the resource is told beside the failed step, not as its cause."""
    assert "step:users/02" in _operated(tmp_path, "gadgets/status")


def _keys(model):
    """Every key of a profile's model, those of its tables too."""
    for name, field in model.model_fields.items():
        if name not in ("root", "file_name"):
            yield name
        for inner in (field.annotation, *get_args(field.annotation)):
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                yield from _keys(inner)


def test_the_how_to_names_every_key_of_a_profile():
    """Nobody needs the source to write a profile."""
    page = (ROOT / "docs" / "your-operator.md").read_text()
    words = set(re.findall(r"\w+", " ".join(re.findall(r"`[^`\n]+`", page))))
    assert set(_keys(Profile)) - words == set()


def test_the_how_to_shows_what_works(tmp_path):
    """The scenario and the chain on the page are read without a complaint, and its log line is a row."""
    page = (ROOT / "docs" / "your-operator.md").read_text()
    blocks = dict(re.findall(r"```(yaml|toml|json)\n(.*?)```", page, re.DOTALL))
    (tmp_path / "k8s-e2e.toml").write_text(LEAST + blocks["toml"])
    (tmp_path / "scenarios").mkdir()
    (tmp_path / "scenarios" / "empty.yaml").write_text(blocks["yaml"])
    profile = load_profile(tmp_path / "k8s-e2e.toml")
    assert [step.kind for step in loader.load(["empty"], profile)[0].steps] == ["apply", "assert"]
    line = LogLine(run=None, time="", text=blocks["json"].strip(), number=1)
    (row,) = operator_actions.from_logs([line], OperatorSource(service="x").event).values()
    assert (row.action, row.resource_name, row.duration_ms) == ("Create", "novels-board-1", 9.4)


def test_the_how_to_names_every_field_of_an_action():
    """What a log line may tell is what `operator-actions.json` keeps."""
    page = (ROOT / "docs" / "your-operator.md").read_text()
    told = {name for name in Action.__struct_fields__ if f"`{name}`" in page}
    assert set(Action.__struct_fields__) - told == {"pod_uid", "pod", "source"}  # the kit's own


def test_a_cluster_scoped_custom_resource_of_the_profile_is_listed():
    """What the profile names is collected wherever it lives; other cluster-scoped kinds of CRDs are not."""
    verbs = ("list", "watch")
    zone = Resource("acme.example", "v1", "Zone", "zones", namespaced=False, verbs=verbs)
    other = Resource("acme.example", "v1", "Realm", "realms", namespaced=False, verbs=verbs)
    assert resources.wanted([zone, other], ["zones.acme.example"]) == [zone]


@pytest.mark.parametrize(
    ("fields", "end"),
    [
        ({"action": "Create", "outcome": "ok", "http_status": 201}, "written"),
        ({"action": "Delete", "outcome": "ok", "http_status": 404}, "written"),  # gone is gone
        ({"action": "create"}, "written"),
        ({"action": "create", "http_status": 403}, "failed"),
        ({"action": "create", "outcome": "Failed"}, "failed"),
        ({"action": "update", "outcome": "conflict", "http_status": 409}, "failed"),  # it was sent
        ({"action": "conflict", "outcome": "ok"}, "withheld"),
        ({"action": "Refuse", "outcome": "skipped"}, "withheld"),
        ({"action": "update", "outcome": "skipped"}, "skipped"),
        ({"action": "create", "outcome": "Unknown"}, "unknown"),
        ({"action": "create", "outcome": "wedged"}, "failed"),
    ],
)
def test_what_became_of_a_write_is_judged_in_one_way(fields, end):
    """Its own word decides, else its HTTP status; what was not sent is no failed write."""
    assert became(Action(time=at(1), resource_kind="ConfigMap", resource_name="a", **fields)) == end


def test_a_table_without_rows_says_none():
    """A notebook shows no head without a body."""
    empty = Table(["a", "b"], [], title="Traces")
    assert (empty._repr_markdown_(), empty._repr_html_()) == ("**Traces**: none\n", "<p><b>Traces</b>: none</p>")
