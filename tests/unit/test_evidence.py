"""Evidence: what may be written of an object, events, tables, operator actions, history, the seal."""

import base64
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from k8s_e2e.base import files
from k8s_e2e.base.errors import UsageError
from k8s_e2e.cluster.provider import Cluster
from k8s_e2e.evidence import events, manifest, operator_actions, pods, recorder, resources, tables, targets
from k8s_e2e.evidence.history import History, event_revisions
from k8s_e2e.evidence.log_lines import LogLine, Run
from k8s_e2e.evidence.parts import Parts
from k8s_e2e.evidence.secrets import LAST_APPLIED, Cleaner, run_salt
from k8s_e2e.model.evidence import Action, Part
from k8s_e2e.model.layout import RunDir
from k8s_e2e.model.profile import Profile
from k8s_e2e.model.settings import Settings
from k8s_e2e.platform.kube import ApiError, Resource

CANARY = "canary-value-9f2c"


def b64(text: str) -> str:
    """Encode as a Secret's data is."""
    return base64.b64encode(text.encode()).decode()


@pytest.fixture
def cleaner():
    """A cleaner with a fixed salt."""
    return Cleaner(b"salt")


def secret(name="db", **data):
    """Make a Secret as the API returns it, last-applied included."""
    encoded = {key: b64(value) for key, value in data.items()}
    applied = {"kind": "Secret", "data": encoded}
    metadata = {"name": name, "uid": name, "resourceVersion": "1", "annotations": {LAST_APPLIED: json.dumps(applied)}}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": encoded}


def test_a_secret_keeps_its_keys_and_loses_its_values(cleaner):
    """Neither the value nor its base64 is left, equal values stay equal, last-applied is gone."""
    first = cleaner.clean(secret(password=CANARY, other="something else"))
    second = cleaner.clean(secret(password=CANARY))
    text = json.dumps([first, second])
    assert CANARY not in text
    assert b64(CANARY) not in text
    assert list(first["data"]) == ["password", "other"]
    assert first["data"]["password"] == second["data"]["password"] != first["data"]["other"]


def test_a_secrets_value_is_found_wherever_else_it_stands(cleaner):
    """Plain, base64 and inside a JSON text of a ConfigMap."""
    cleaner.clean(secret(password=CANARY))
    other = {"kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"a": CANARY, "b": b64(CANARY), "c": "kept"}}
    cleaned = cleaner.clean(other)
    assert CANARY not in json.dumps(cleaned)
    assert b64(CANARY) not in json.dumps(cleaned)
    assert cleaned["data"]["c"] == "kept"


def test_a_secrets_value_has_one_salted_token_wherever_it_stands(cleaner):
    """Log, base64 and the Secret itself agree within a run; another run's salt gives another hash, no salt a random."""
    cleaned = cleaner.clean(secret(password=f"{CANARY}\n"))
    token = cleaned["data"]["password"]
    assert cleaner.redactor.text(f"login with {CANARY}!") == f"login with {token}!"
    assert cleaner.redactor.text(b64(CANARY)) == cleaner.redactor.text(b64(f"{CANARY}\n")) == token
    again, other, random = Cleaner(b"salt"), Cleaner(b"another run's"), Cleaner()
    assert again.clean(secret(password=f"{CANARY}\n"))["data"]["password"] == token
    assert len({each.clean(secret(password=f"{CANARY}\n"))["data"]["password"] for each in (again, other, random)}) == 3
    assert other.redactor.text("password=abcdefgh") != again.redactor.text("password=abcdefgh")


def test_what_is_asked_of_a_secret_can_be_laid_beside_it(cleaner):
    """Equal values of both have equal tokens, short and public ones too; neither is changed, other kinds are as is."""
    live, asked = (
        secret(password="pin", user="root"),
        {"kind": "Secret", "data": {"password": b64("pin"), "user": None}},
    )
    shown, wanted = cleaner.shown(live), cleaner.shown(asked, "db")
    assert shown["data"]["password"] == wanted["data"]["password"]
    assert b64("pin") not in json.dumps([shown, wanted])
    assert b64("root") not in json.dumps(shown)
    assert (live["data"]["user"], asked["data"]["password"]) == (b64("root"), b64("pin"))
    other = {"kind": "ConfigMap", "data": {"a": "b"}}
    assert cleaner.shown(other) is other


def test_registry_credentials_inside_a_secret_are_learnt(cleaner):
    """The password within a dockerconfigjson is looked for, too."""
    config = json.dumps({"auths": {"r.example": {"auth": "dXNlcjpwYXNz", "password": CANARY}}})
    cleaner.clean(secret(**{".dockerconfigjson": config}))
    assert CANARY not in cleaner.redactor.text(f"pull with {CANARY}")


def test_public_keys_of_secrets_do_not_blank_ordinary_words(cleaner):
    """A service account token's namespace and a user name stay readable elsewhere."""
    cleaner.clean(secret(namespace="turbo-engine", username="postgres"))
    assert cleaner.redactor.text("postgres in turbo-engine") == "postgres in turbo-engine"


def test_literal_credentials_in_env_are_masked(cleaner):
    """By the variable's name, also within last-applied; switches, numbers and paths are no credentials."""
    env = [
        {"name": "DB_PASSWORD", "value": CANARY},
        {"name": "TOKEN_REQUIRED", "value": "true"},
        {"name": "SECRET_FILE", "value": "/etc/secret"},
        {"name": "LOG_LEVEL", "value": "debug"},
    ]
    spec = {"containers": [{"name": "c", "env": env}]}
    applied = json.dumps({"spec": spec})
    pod = {"kind": "Pod", "metadata": {"name": "p", "annotations": {LAST_APPLIED: applied}}, "spec": spec}
    cleaned = cleaner.clean(json.loads(json.dumps(pod)))
    assert CANARY not in json.dumps(cleaned)
    assert [one["value"] for one in cleaned["spec"]["containers"][0]["env"]][1:] == ["true", "/etc/secret", "debug"]


def test_redaction_never_breaks_an_object(cleaner):
    """A pattern that would reach over strings is applied string by string."""
    obj = {"kind": "X", "metadata": {}, "a": "-----BEGIN PRIVATE KEY-----", "b": "-----END PRIVATE KEY-----"}
    assert set(cleaner.clean(obj)) == {"kind", "metadata", "a", "b"}


def test_the_salt_is_the_runs_own_and_nobody_elses_to_read(tmp_path):
    """One salt a run, 0600, the same for every process."""
    first = run_salt(tmp_path / "a")
    assert first == run_salt(tmp_path / "a") != run_salt(tmp_path / "b")
    assert (tmp_path / "a" / "salt").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["salt"]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"lastTimestamp": "2026-01-02T03:04:05Z"}, "2026-01-02T03:04:05.000000Z"),
        ({"lastTimestamp": None, "eventTime": "2026-01-02T03:04:05.5Z"}, "2026-01-02T03:04:05.500000Z"),
        (
            {"eventTime": "2026-01-02T03:04:05Z", "series": {"lastObservedTime": "2026-01-02T03:05:00Z"}},
            "2026-01-02T03:05:00.000000Z",
        ),
        ({"metadata": {"creationTimestamp": "2026-01-02T03:04:05Z"}}, "2026-01-02T03:04:05.000000Z"),
        ({"lastTimestamp": "rubbish"}, ""),
    ],
)
def test_an_events_time_is_its_latest_occurrence(fields, expected):
    """A null lastTimestamp never makes an event old, and a series counts by its last occurrence."""
    assert events.event_time(fields) == expected


def test_the_events_table_has_one_line_an_event_in_order():
    """Only the last revision of an event is shown; a message of many lines stays one line."""

    def event(uid, time, count, message):
        about = {"kind": "Pod", "name": "web"}
        metadata = {"uid": uid, "name": uid, "resourceVersion": str(count)}
        raw = {"metadata": metadata, "lastTimestamp": time, "count": count, "message": message, "involvedObject": about}
        return events.revision(raw, seen=time)

    text = events.table(
        [
            event("b", "2026-01-02T03:04:09Z", 1, "late"),
            event("a", "2026-01-02T03:04:01Z", 1, "early"),
            event("a", "2026-01-02T03:04:07Z", 2, "back\noff"),
        ]
    )
    lines = text.splitlines()
    assert len(lines) == 3
    assert lines[1].startswith("2026-01-02T03:04:07.000000Z")
    assert lines[1].endswith("back off")
    assert lines[2].endswith("late")


def test_a_servers_table_is_aligned_and_an_empty_one_is_left_out():
    """Cells are padded, null is <none>, newlines cannot break a row."""
    table = {"columnDefinitions": [{"name": "Name"}, {"name": "Node"}], "rows": [{"cells": ["a\nb", None]}]}
    assert tables.render("pods", table) == "==> pods: 1 <==\nNAME   NODE\na b    <none>\n"
    assert tables.render("pods", {"rows": []}) == ""


def action_line(seq, *, run=0, event="operator.action", number=1, **more):
    """Make a log line of the operator."""
    fields = {"event": event, "seq": seq, "action": "Create", "resource_kind": "Service", "resource_name": "svc-a"}
    where = Run("operator-1", "operator", run, "uid-1")
    return LogLine(number, "2026-01-02T03:04:05.000000Z", json.dumps({**fields, **more}), where)


def test_an_operators_lines_become_rows_each_once_and_gaps_are_named():
    """A line seen twice is one row; numbers nobody saw are gaps; each container run counts anew."""
    lines = [action_line(1), action_line(1), action_line(4), action_line(2, run=1), action_line(9, event="other")]
    done = operator_actions.finished(operator_actions.from_logs(lines, "operator.action"))
    assert done.count == 3
    assert done.gaps == ["operator-1 run 0: 2-3", "operator-1 run 1: 1"]
    assert {row.pod_uid for row in done.actions} == {"uid-1"}


def test_the_operators_api_fills_what_its_log_has_lost():
    """A row of both is the log's; one only the API has is marked so."""
    rows = operator_actions.from_logs([action_line(1), action_line(3)], "operator.action")
    reply = {
        "actions": [{"seq": 2, "action": "Update", "resource_kind": "Deployment", "resource_name": "d"}, {"seq": 3}]
    }
    done = operator_actions.finished(operator_actions.with_api(rows, reply, Run("operator-1", "operator", 0, "uid-1")))
    assert sorted((row.seq, row.source) for row in done.actions) == [(1, "log"), (2, "api"), (3, "log")]
    assert done.gaps == []


def test_a_row_keeps_what_the_line_told(tmp_path):
    """The write's span is kept, and every row has every key, an empty one too."""
    line = action_line(1, trace_id="ab" * 16, span_id="cd" * 8, fields=[], outcome="ok", http_status=201)
    done = operator_actions.finished(operator_actions.from_logs([line], "operator.action"))
    files.write_json(tmp_path / "actions.json", done)
    (row,) = json.loads((tmp_path / "actions.json").read_text())["actions"]
    assert {name: row[name] for name in ("trace_id", "span_id", "fields", "reason", "http_status")} == {
        "trace_id": "ab" * 16, "span_id": "cd" * 8, "fields": [], "reason": "", "http_status": 201,
    }  # fmt: skip
    assert set(row) == set(Action.__struct_fields__)


def test_odd_fields_cost_their_details_not_the_row():
    """Lines that are no JSON are passed over; a field of a wrong type does not lose the action."""
    lines = [
        LogLine(1, "", "operator.action {broken", None),
        LogLine(2, "", json.dumps(["operator.action"]), None),
        action_line(5, fields="not a list"),
    ]
    (row,) = operator_actions.from_logs(lines, "operator.action").values()
    assert (row.seq, row.action, row.fields) == (5, "Create", [])


def pod(name, uid, version, **labels):
    """Make a Pod as the API returns it."""
    owner = [{"kind": "ReplicaSet", "name": "web-5d9f"}]
    metadata = {"name": name, "uid": uid, "resourceVersion": version, "labels": labels, "ownerReferences": owner}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata}


def history_of(directory, notes=None):
    """Open a history in ``directory``."""
    note = (lambda event, **_: notes.append(event)) if notes is not None else (lambda *_, **__: None)
    return History(directory / "history.jsonl", directory / "events.jsonl", Cleaner(b"s"), note=note)


def lines_of(path):
    """Read what matters of a history."""
    return [
        (line["change"], line["name"], line["resource_version"])
        for line in map(json.loads, path.read_text().splitlines())
    ]


def test_each_revision_is_written_once_and_a_relist_is_a_replace(tmp_path):
    """Lists and watches overlap; what a new list lacks was deleted in between."""
    history = history_of(tmp_path)
    history.replace(targets.PODS, [pod("a", "1", "10"), pod("b", "2", "11")])
    history.change(targets.PODS, "ADDED", pod("a", "1", "10"))
    history.change(targets.PODS, "MODIFIED", pod("a", "1", "12"))
    history.replace(targets.PODS, [pod("a", "1", "12"), pod("c", "3", "13")])
    history.close()
    assert lines_of(tmp_path / "history.jsonl") == [
        ("ADDED", "a", "10"),
        ("ADDED", "b", "11"),
        ("MODIFIED", "a", "12"),
        ("ADDED", "c", "13"),
        ("DELETED", "b", "11"),
    ]


def test_a_list_that_a_watch_has_overtaken_changes_nothing(tmp_path):
    """An old list neither brings back what was deleted since, nor deletes what was made since; events, too."""
    history = history_of(tmp_path)
    history.replace(targets.PODS, [pod("a", "1", "10")], "11")
    history.change(targets.PODS, "ADDED", pod("new", "2", "13"))
    history.change(targets.PODS, "DELETED", pod("a", "1", "12"))
    history.replace(targets.PODS, [pod("a", "1", "10")], "11")  # read before both, handed on after
    history.replace(targets.PODS, [pod("new", "2", "13")], "14")
    event = {"metadata": {"uid": "e", "name": "e", "resourceVersion": "9"}, "message": "first"}
    history.change(targets.EVENTS, "MODIFIED", {**event, "metadata": {**event["metadata"], "resourceVersion": "10"}})
    history.replace(targets.EVENTS, [event], "9")
    history.close()
    assert lines_of(tmp_path / "history.jsonl") == [
        ("ADDED", "a", "10"),
        ("ADDED", "new", "13"),
        ("DELETED", "a", "12"),
    ]
    assert [one.resource_version for one in event_revisions(tmp_path / "events.jsonl")] == ["10"]


def test_what_a_list_has_shown_to_be_gone_does_not_come_back_from_a_late_watch(tmp_path):
    """A revision that a watch delivers after the list that no longer has the object is older than that list."""
    history = history_of(tmp_path)
    history.replace(targets.PODS, [pod("a", "1", "10")], "11")
    history.replace(targets.PODS, [], "20")
    history.change(targets.PODS, "MODIFIED", pod("a", "1", "15"))
    history.close()
    assert lines_of(tmp_path / "history.jsonl") == [("ADDED", "a", "10"), ("DELETED", "a", "10")]


def test_a_history_goes_on_after_a_kill_in_the_middle_of_a_line(tmp_path):
    """Known revisions are not written again, and a cut line spoils no other."""
    first = history_of(tmp_path)
    first.replace(targets.PODS, [pod("a", "1", "10"), pod("b", "2", "11")])
    first.close()
    with (tmp_path / "history.jsonl").open("a") as stream:
        stream.write('{"seen":"2026')
    second = history_of(tmp_path)
    second.replace(targets.PODS, [pod("a", "1", "10")])
    second.close()
    lines = (tmp_path / "history.jsonl").read_text().splitlines()
    assert [json.loads(line)["change"] for line in (lines[0], lines[1], lines[3])] == ["ADDED", "ADDED", "DELETED"]


def test_event_revisions_are_kept_and_expiry_says_nothing(tmp_path):
    """Each count of an event is a row; an event that expired is not."""
    history = history_of(tmp_path)
    event = {"metadata": {"uid": "e", "name": "e", "resourceVersion": "1"}, "message": f"password={CANARY}"}
    history.change(targets.EVENTS, "ADDED", event)
    history.change(targets.EVENTS, "MODIFIED", {**event, "metadata": {**event["metadata"], "resourceVersion": "2"}})
    history.change(targets.EVENTS, "DELETED", event)
    history.close()
    revisions = event_revisions(tmp_path / "events.jsonl")
    assert [revision.resource_version for revision in revisions] == ["1", "2"]
    assert CANARY not in (tmp_path / "events.jsonl").read_text()


def test_pods_are_known_by_service_also_when_they_are_gone(tmp_path):
    """Label app, else the recommended name label, else the Deployment behind the ReplicaSet."""
    history = history_of(tmp_path)
    history.replace(
        targets.PODS,
        [pod("a", "1", "1", app="shop"), pod("b", "2", "2", **{"app.kubernetes.io/name": "store"}), pod("c", "3", "3")],
    )
    history.replace(targets.PODS, [])
    history.close()
    known = [(one.name, one.service) for one in pods.recorded(tmp_path / "history.jsonl")]
    assert known == [("a", "shop"), ("b", "store"), ("c", "web")]


def test_every_listable_kind_is_chosen_once_in_its_preferred_version():
    """Both versions of a kind and events under a second group are not asked for twice."""

    def kind(group, version, plural, *, namespaced=True, verbs=("list",)):
        return Resource(group, version, plural.title(), plural, namespaced, verbs)

    chosen = resources.wanted(
        [
            kind("", "v1", "pods"),
            kind("", "v1", "events"),
            kind("", "v1", "bindings", verbs=("create",)),
            kind("", "v1", "nodes", namespaced=False),
            kind("", "v1", "componentstatuses", namespaced=False),
            kind("events.k8s.io", "v1", "events"),
            kind("autoscaling", "v2", "horizontalpodautoscalers"),
            kind("autoscaling", "v1", "horizontalpodautoscalers"),
        ],
        [],
    )
    assert [(one.plural, one.version) for one in chosen] == [
        ("pods", "v1"),
        ("events", "v1"),
        ("nodes", "v1"),
        ("horizontalpodautoscalers", "v2"),
    ]


def test_a_failing_part_is_told_and_stops_nothing():
    """Denied, failed and broken parts each say so."""

    def refuse():
        raise ApiError(403, "Forbidden", "no")

    parts = Parts()
    parts.do("a", refuse)
    parts.do("b", lambda: 1 // 0)
    assert parts.do("c", lambda: 3)
    assert [(part.name, part.status, part.rows) for part in parts.all()] == [
        ("a", "denied", None),
        ("b", "failed", None),
        ("c", "ok", 3),
    ]


@pytest.fixture
def sealed(tmp_path):
    """A sealed run directory."""
    run = RunDir(tmp_path)
    for name, text in {
        "run.json": "{}",
        "k8s/resources.json": '{"items": [1, 2, 3]}',
        "k8s/logs/a/b.txt": "x [redacted:db/password:abcdef]\n[k8s-e2e: 12 bytes cut here]\ny\n",
        "logs/kit.jsonl": '{"a":1}\n',
        "requests.jsonl": '{"a":1}\n{"a":2}\n',
        "notebooks/deploy.ipynb": "{}",
        "notebooks/report.ipynb": "{}",
        "k8s/timeline.txt": "derived",
        "REPORT.md": "derived",
    }.items():
        run.path(name).parent.mkdir(parents=True, exist_ok=True)
        run.path(name).write_text(text)
    manifest.seal(run, [Part(name="events", status="ok", duration_s=0.1)], "r1")
    return run


def test_the_seal_covers_what_was_observed_and_nothing_derived(sealed):
    """Rows, cuts and redactions are counted; reports and later notebooks are not sealed."""
    found = json.loads(sealed.manifest.read_text())
    files = {entry["path"]: entry for entry in found["files"]}
    assert sorted(files) == [
        "k8s/logs/a/b.txt",
        "k8s/resources.json",
        "logs/kit.jsonl",
        "notebooks/deploy.ipynb",
        "requests.jsonl",
    ]
    assert (files["k8s/resources.json"]["rows"], files["requests.jsonl"]["rows"]) == (3, 2)
    log = files["k8s/logs/a/b.txt"]
    assert (log["truncated"], log["redactions"]) == ("12 bytes cut in 1 places", 1)
    assert found["redactions"] == {"db/password": 1}
    assert manifest.verify(sealed) == []


def test_every_difference_from_the_seal_is_named(sealed):
    """Changed, cut, gone and added files are told apart."""
    sealed.path("k8s/resources.json").write_text('{"items": [1, 2, 4]}')
    sealed.path("requests.jsonl").write_text("")
    sealed.path("k8s/logs/a/b.txt").unlink()
    sealed.path("k8s/added.txt").write_text("new")
    found = manifest.verify(sealed)
    assert [line.split(maxsplit=1)[0] for line in found] == [
        "k8s/logs/a/b.txt",
        "k8s/resources.json",
        "requests.jsonl",
        "k8s/added.txt",
    ]
    assert "sha256" in found[1]


def test_the_kits_log_may_grow_but_not_change(sealed):
    """What was sealed of a growing file must stay."""
    with sealed.path("logs/kit.jsonl").open("a") as stream:
        stream.write('{"later":1}\n')
    assert manifest.verify(sealed) == []
    sealed.path("logs/kit.jsonl").write_text('{"b":1}\n{"later":1}\n')
    assert len(manifest.verify(sealed)) == 1


def test_a_directory_without_manifest_is_one_clear_error(tmp_path):
    """Nothing to verify against is a usage error."""
    with pytest.raises(UsageError, match=r"manifest\.json"):
        manifest.verify(RunDir(tmp_path))


def test_ending_a_recorder_that_does_not_run_is_fine(tmp_path):
    """Drain and stop are idempotent, and so harmless after a crash."""
    settings = Settings(state_dir=tmp_path / "state")
    run = RunDir(tmp_path / "run")
    assert not recorder.alive(run, settings)
    assert recorder.drain(run, settings) is False
    assert recorder.stop(run, settings) is False


@pytest.mark.parametrize(
    ("notes", "told"),
    [
        ([], ""),
        ([{"event": "recorder.started", "time": "1"}, {"event": "recorder.ended", "why": "drained"}], ""),
        ([{"event": "recorder.started", "time": "1"}, {"event": "watch.failed"}], "died after 2026-01-02T03:04:09"),
        (
            [
                {"event": "recorder.ended", "why": "drained"},
                {"event": "recorder.started", "time": "2026-01-02T03:04:59"},
            ],
            "died after 2026-01-02T03:04:59",
        ),
        (
            [{"event": "recorder.ended", "time": "T", "why": "the API server has been gone"}],
            r"ended at T \(the API ser",
        ),
    ],
)
def test_a_recorder_that_ended_before_it_was_drained_is_no_success(tmp_path, notes, told):
    """Whoever drains hears that and since when nothing was recorded, unless nothing was to be."""
    run = RunDir.claim(tmp_path / "run")
    for path, lines in {
        "logs/recorder.jsonl": notes,
        "k8s/history.jsonl": [{"seen": "2026-01-02T03:04:05"}, {"seen": "2026-01-02T03:04:09"}],
    }.items():
        run.path(path).parent.mkdir()
        run.path(path).write_text("".join(json.dumps(line) + "\n" for line in lines))
    settings = Settings(state_dir=tmp_path / "state")
    if not told:
        assert recorder.drain(run, settings) is False
        return
    with pytest.raises(recorder.RecorderFailed, match=told):
        recorder.drain(run, settings)


def test_a_recorder_without_a_cluster_says_why(tmp_path):
    """A kubeconfig that is not there ends the start at once, with the reason."""
    (tmp_path / "run").mkdir()
    cluster = Cluster(name="c", provider="local", kubeconfig=tmp_path / "none", kubectl=Path("/bin/false"))
    profile = Profile(root=tmp_path, name="p", overlay="o", namespace="n")
    with pytest.raises(recorder.RecorderFailed, match="there is no such file"):
        recorder.start(RunDir(tmp_path / "run"), cluster, "n", profile, Settings(state_dir=tmp_path / "state"))


def test_a_recorder_that_does_not_come_up_is_ended(monkeypatch):
    """A first process that hangs is killed with its group, and said to be the machine's fault."""
    monkeypatch.setattr(recorder, "START_TIMEOUT_S", 0.2)
    child = subprocess.Popen(["sleep", "60"], start_new_session=True)
    with pytest.raises(recorder.RecorderFailed, match=r"was not up within 0\.2 s") as caught:
        recorder._wait_forked(child)
    assert child.returncode == -signal.SIGKILL
    assert caught.value.exit_code == 3


def test_a_recorder_that_is_still_being_started_can_be_stopped(tmp_path):
    """A stop that comes before the pid is written waits for it to end, and says so if it does not."""
    settings = Settings(state_dir=tmp_path / "state")
    run = RunDir(tmp_path / "run")
    state = recorder.place(run, settings)
    state.mkdir(parents=True)
    with (state / "alive").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(recorder.RecorderFailed, match="pid unknown"):
            recorder.drain(run, settings, timeout_s=0.1)
        threading.Timer(0.3, lock.close).start()
        assert recorder.drain(run, settings, timeout_s=20)


def test_importing_the_recorder_is_cheap():
    """The recorder's process does without pandas, pydantic and the rest of the kit."""
    code = "import sys, k8s_e2e.evidence.recording; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert not loaded & {"pandas", "pydantic", "matplotlib", "IPython", "kubernetes"}


def test_the_deadline_of_a_wait_for_the_recorder_is_kept(tmp_path):
    """Waiting for a lock that somebody holds ends in time."""
    lock = (tmp_path / "alive").open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    assert recorder._wait_gone(tmp_path, 0.1) is False
    lock.close()
    assert recorder._wait_gone(tmp_path, 0.1) is True
