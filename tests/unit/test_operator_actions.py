"""Section 4 of the report: what an operator wrote, what failed, what it did not write, and what others did."""

import json
import re

import msgspec

from k8s_e2e.diagnosis import diagnose
from k8s_e2e.model.evidence import Action
from k8s_e2e.report import write_reports
from tests.unit import run_builder as made

OWN = "acme-operator"


def act(second, action, name, *, pod="operator-a", outcome="ok", kind="ConfigMap", **more):
    """Make an action of the operator."""
    return Action(
        time=made.at(second), action=action, resource_kind=kind, resource_name=name, pod=pod, pod_uid=f"uid-{pod}",
        outcome=outcome, duration_ms=5.0, **more,
    )  # fmt: skip


def section(tmp_path, *actions, prepare=lambda _: None):
    """Write the reports of a run with these actions and return section 4 of REPORT.md, and the run."""
    builder = made.green(tmp_path)
    builder.actions = list(actions)
    prepare(builder)
    run = builder.write()
    diagnose(run)
    write_reports(run)
    return run.report.read_text().split("## 4. ")[1].split("## 5. ")[0], run


def written(builder, second, name, *writers, uid="", change="MODIFIED", owner=None):
    """Add a revision of a ConfigMap with these (field manager, subresource, second) in its managedFields."""
    entries = [
        {"manager": manager, "operation": "Update", "time": made.at(time)[:19] + "Z", "subresource": part}
        for manager, part, time in writers
    ]
    meta = {"name": name, "uid": uid or f"uid-{name}", "managedFields": entries}
    if owner:
        meta["ownerReferences"] = [{"kind": "Shelf", "name": "shelf", "uid": owner, "controller": True}]
    builder.object(second, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta}, change)


def test_a_conflict_is_no_write_and_no_failure(tmp_path):
    """What was withheld is counted apart, stands in its place in time, and its later write is named."""
    text, run = section(
        tmp_path,
        act(41, "Create", "a"),
        act(42, "Conflict", "b", outcome="skipped", reason="belongs to somebody"),
        act(43, "Update", "a", fields=["data.x"], reason="asked for"),
        act(44, "Create", "b", pod="operator-b"),
    )
    assert "- **Writes done**: 3 (2 Create, 1 Update); none failed\n" in text
    assert "- **Not written**: 1 object (1 Conflict)" in text
    assert "; written later: `ConfigMap/b` (Create at 03:00:44.000)" in text
    assert "refused or failed" not in text
    assert "| 03:00:42.000 | Conflict | `ConfigMap/b` | not written (skipped) |  | `belongs to somebody` |" in text
    assert "`asked for: data.x`" in text
    times = re.findall(r"^\| (03:00:\S+) \|", text, re.MULTILINE)
    assert times == sorted(times)
    assert len(times) == 4
    items = json.loads(run.timeline.read_text())["items"]
    assert [item["status"] for item in items if item["lane"] == "actions"] == ["ok", "warning", "ok", "ok"]


def test_failed_writes_say_which_objects_were_never_written(tmp_path):
    """A failed write, one of unknown outcome, and a refusal are three lines, each with what came of its object."""
    text, _ = section(
        tmp_path,
        act(41, "Create", "a", outcome="failed", http_status=500),
        act(42, "Create", "b", outcome="failed", http_status=403),
        act(43, "Create", "a"),
        act(44, "Update", "c", outcome="unknown"),
        act(45, "Refuse", "d", outcome="skipped"),
    )
    assert "- **Writes done**: 1 (1 Create)\n" in text
    later = "written later: `ConfigMap/a` (Create at 03:00:43.000); not written later: `ConfigMap/b`\n"
    assert f"**Writes failed**: 2 (2 Create); {later}" in text
    assert re.search(r"\*\*Writes of unknown outcome\*\*: 1 \(1 Update\).*; not written later: `ConfigMap/c`\n", text)
    assert re.search(r"\*\*Not written\*\*: 1 object \(1 Refuse\).*; not written later: `ConfigMap/d`\n", text)
    assert "| ✗ Create | `ConfigMap/b` | failed (403) |" in text


def test_of_many_actions_the_failed_ones_stay_and_all_are_in_order(tmp_path):
    """A failed write at the end is in the table, behind the earlier ones that there was room for."""
    many = [act(40 + number / 10, "Update", f"c{number:02}") for number in range(50)]
    text, _ = section(tmp_path, *many, act(50, "Create", "last", outcome="failed"))
    rows = [line for line in text.splitlines() if line.startswith("| 03:")]
    assert len(rows) == 30
    assert rows == sorted(rows)
    assert "`ConfigMap/c28`" in rows[28]
    assert "`ConfigMap/last`" in rows[29]
    assert "21 more in" in text
    assert "all 1 that failed or were not written are above" in text


def test_two_pods_are_told_with_their_times(tmp_path):
    """Whether one followed the other is said, and what their order is worth."""
    first, second = act(41, "Create", "a"), act(43, "Update", "a", pod="operator-b")
    text, _ = section(tmp_path / "one", first, act(42, "Create", "b"), second)
    assert "**Pods**: 2 acted one after the other: `operator-a` 2 actions from 03:00:41.000 to 03:00:42.000; " in text
    assert "the order between pods is only as exact" in text
    text, _ = section(tmp_path / "both", first, second, act(44, "Create", "b"))
    assert "**Pods**: 2 acted in turns: " in text
    text, _ = section(tmp_path / "alone", first)
    assert "**Pods**" not in text


def test_a_write_that_failed_is_not_missed_at_the_end(tmp_path):
    """Only what was written is said to be absent from the final state."""
    text, _ = section(
        tmp_path, act(41, "Create", "made"), act(42, "Create", "refused", outcome="failed", http_status=403)
    )
    assert "**Written, and absent at the end**: `ConfigMap/made`" in text
    assert "at the end**: `ConfigMap/refused`" not in text


def test_what_is_in_the_way_becomes_a_finding_of_its_own_words(tmp_path):
    """A conflict that lasts is told as not written, and no answer of the API server is blamed."""
    conflict = act(41, "Conflict", "b", outcome="skipped", reason="belongs to somebody")
    _, run = section(tmp_path, conflict, prepare=made.fail)
    (finding,) = (
        one for one in json.loads(run.findings.read_text())["findings"] if one["id"] == "operator-write:ConfigMap/b"
    )
    assert finding["title"] == "The operator did not write ConfigMap/b (Conflict)"
    assert "API server" not in finding["fix"]


def test_changes_by_others_stand_beside_what_the_operator_wrote_next(tmp_path):
    """A deletion and an edit by hand are told with the operator's repair; its own writes and statuses are not."""

    def prepare(builder):
        own = (OWN, "", 41)
        written(builder, 41, "a", own, change="ADDED")
        written(builder, 42, "a", own, ("kubectl", "scale", 42))
        written(builder, 42.5, "a", own, ("kubectl", "scale", 42), ("other", "status", 42))
        written(builder, 43, "a", (OWN, "", 43))
        written(builder, 41, "b", own, change="ADDED")
        written(builder, 44, "b", own, change="DELETED")
        written(builder, 44.1, "b", (OWN, "", 44), uid="uid-b2", change="ADDED")
        written(builder, 46, "b", (OWN, "", 44), ("kubectl-edit", "", 46), uid="uid-b2")

    actions = [act(41, "Create", "a"), act(41, "Create", "b"), act(43, "Update", "a"), act(44.1, "Create", "b")]
    text, _ = section(tmp_path, *actions, prepare=prepare)
    table = text.split("**What others did")[1]
    assert f"next write by {OWN}" in table
    assert [line.rpartition(" | ")[0] for line in table.splitlines() if line.startswith("| 03:")] == [
        "| 03:00:42.000 | changed it (scale) | `kubectl` | `ConfigMap/a` | changed it, seen 03:00:43.000",
        "| 03:00:44.000 | deleted it | not recorded | `ConfigMap/b` | created it, seen 03:00:44.100",
        "| 03:00:46.000 | changed it | `kubectl-edit` | `ConfigMap/b` | none",
    ]


def test_deletions_in_the_course_of_things_are_nobody_elses(tmp_path):
    """What the operator deleted, or garbage collection after its owner, is no change by others though made again."""

    def prepare(builder):
        own = (OWN, "", 41)
        shelf = {"apiVersion": "acme.example/v1", "kind": "Shelf", "metadata": {"name": "shelf", "uid": "uid-shelf"}}
        builder.object(40, shelf, "ADDED")
        for name, owner in (("replaced", None), ("collected", "uid-shelf"), ("taken", None)):
            written(builder, 41, name, own, change="ADDED", owner=owner)
        builder.object(42, shelf, "DELETED")
        for name, owner in (("replaced", None), ("collected", "uid-shelf"), ("taken", None)):
            written(builder, 43, name, own, change="DELETED", owner=owner)
            written(builder, 44, name, (OWN, "", 44), uid=f"uid-{name}-2", change="ADDED")

    names = ("replaced", "collected", "taken")
    actions = [act(41, "Create", name) for name in names]
    actions += [act(42.9, "Delete", "replaced"), *(act(44, "Create", name) for name in names)]
    text, _ = section(tmp_path, *actions, prepare=prepare)
    assert re.findall(r"deleted it \| not recorded \| `ConfigMap/(\w+)`", text) == ["taken"]


def test_rows_of_an_older_kit_make_a_report(tmp_path):
    """A file without the newer keys, as older run directories have it, is told as before."""
    _, run = section(tmp_path, act(41, "Create", "a"))
    old = json.loads(run.actions.read_text())
    for row in old["actions"]:
        for name in ("span_id", "fields", "reason", "http_status", "seq"):
            del row[name]
    run.actions.write_bytes(msgspec.json.encode(old))
    write_reports(run)
    assert "- **Writes done**: 1 (1 Create); none failed\n" in run.report.read_text()


def test_a_refusal_is_not_mended_by_a_later_write(tmp_path):
    """An object may be written later and what was refused of it still be refused."""
    refusal = act(5, "Refuse", "shelf", outcome="skipped", kind="Shelf", reason="a.b: too wide")
    text, _ = section(tmp_path, refusal, act(6, "Update", "shelf", kind="Shelf"))
    assert "a.b: too wide" in text
    assert "written later" not in text
