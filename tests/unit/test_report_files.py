"""The reports of a run: complete, reproducible, and written whatever is missing."""

import hashlib
import json
import os
import shutil
import xml.etree.ElementTree as ET
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from k8s_e2e.base import files
from k8s_e2e.diagnosis import diagnose
from k8s_e2e.model import io
from k8s_e2e.model.evidence import Derived, Manifest, Part
from k8s_e2e.model.layout import RunDir
from k8s_e2e.report import Run, write_reports
from tests.unit import run_builder as made

EXPECTED = {
    "REPORT.md", "REPORT.html", "timeline.json", "timeline.png", "k8s/timeline.txt", "step-summary.md", "pr-comment.md",
    "junit.xml", "scenarios/users/report.md", "exports/timeline.perfetto.json", "derived.json",
}  # fmt: skip


@pytest.fixture(scope="module")
def red(tmp_path_factory) -> RunDir:
    """A diagnosed run that failed."""
    run = made.red_image(tmp_path_factory.mktemp("runs") / "red").write()
    diagnose(run)
    return run


def digests(run: RunDir, paths: list[str]) -> dict[str, str]:
    """Return path -> sha256."""
    return {path: hashlib.sha256(run.path(path).read_bytes()).hexdigest() for path in paths}


def test_every_report_is_written_and_listed(red):
    """All derived files are written, and derived.json holds the hash of each, those of the layers below too."""
    assert set(write_reports(red)) == EXPECTED
    listed = {entry.path: entry.sha256 for entry in io.load(red.derived, Derived).files}
    assert set(listed) == (EXPECTED - {"derived.json"}) | {"findings.json", "trace-analysis.json"}
    assert listed == digests(red, list(listed))


def test_the_same_run_gives_the_same_bytes(red):
    """Written twice, in between with another outcome of the report stage itself, every file is the same."""
    before = digests(red, write_reports(red))
    record = json.loads(red.run_json.read_text())
    record["stages"].append({"name": "report", "status": "failed", "started": made.at(999), "duration_s": 7.5})
    record |= {"exit_code": 1, "finished": made.at(1000)}
    red.run_json.write_text(json.dumps(record))
    assert digests(red, write_reports(red)) == before


def test_the_first_report_is_as_any_later_one(tmp_path):
    """The files that the first report leaves behind change nothing in the second."""
    run = made.red_image(tmp_path).write()
    diagnose(run)
    files.write(run.path("logs/kit.jsonl"), '{"msg": "stage report"}\n')
    before = digests(run, write_reports(run))
    diagnose(run)
    files.write(run.path("logs/kit.jsonl"), '{"msg": "stage report passed"}\n')
    assert digests(run, write_reports(run)) == before


def test_a_part_that_was_not_collected_is_a_blind_spot(tmp_path):
    """A part of the collection that was skipped, denied or failed is named with its reason."""
    run = made.green(tmp_path).write()
    manifest = io.load(run.manifest, Manifest)
    manifest.parts.append(Part(name="namespace", status="skipped", duration_s=0.1, error="never made for this run"))
    files.write_json(run.manifest, manifest)
    assert diagnose(run).blind_spots == ["manifest.json#namespace: skipped: never made for this run"]
    write_reports(run)
    assert "manifest.json#namespace: skipped: never made" in run.report.read_text("utf-8")


def test_the_same_run_elsewhere_gives_the_same_bytes(red, tmp_path):
    """A copy of the run directory under another name is told in the same words."""
    before = digests(red, write_reports(red))
    shutil.copytree(red.root, tmp_path / "copy")
    assert digests(RunDir(tmp_path / "copy"), write_reports(RunDir(tmp_path / "copy"))) == before


def test_first_screen(red):
    """The first 40 lines hold verdict, failing step with what was seen, cause, chain, evidence and next command."""
    write_reports(red)
    screen = "\n".join(red.report.read_text("utf-8").splitlines()[:40])
    for words in (
        'verdict: "failed"', "# FAILED: step users/02", "**Expected**", "**Got**", "**Last seen**", "**Stuck at**",
        "**Hopeless**", "Image example.test/users:nope does not exist", "APIGraph/env-1 asks for the image",
        "k8s/events.jsonl#L", "grep -n deploy-users-8f-q2 k8s/events.txt", "**Fix**",
    ):  # fmt: skip
        assert words in screen


def test_the_cause_stands_before_what_was_expected_and_seen(tmp_path):
    """However long the objects are: what failed, why, what mends it, what to read, where to type it, then the rest."""
    builder = made.red_crash(tmp_path)
    step = builder.results.scenarios[0].steps[1]
    seen = '{"conditions": [{"type": "Ready", "x_y": "<z>"}]}'
    step.hopeless, step.last_seen = "", seen
    step.expected = step.actual = {"conditions": [{"type": "Ready", "message": "long " * 400}]}
    run = builder.write()
    diagnose(run)
    write_reports(run)
    lines = run.report.read_text("utf-8").splitlines()
    names = [line.split("**")[1] for line in lines if line.startswith("- **")]
    assert names[:5] == [
        "Failed", "Cause (fault lies with: the platform under test)", "Fix", "Next (in the run directory)",
        "Again (in the project)",
    ]  # fmt: skip
    assert names.index("Evidence") < names.index("Verdict") < names.index("Expected") < names.index("Got")
    assert f"# FAILED: step users/02 (deployment is available): `{seen}`" in lines


def test_what_is_published_names_no_cluster_of_the_author(tmp_path):
    """The command to run it again works for whoever reads it; at home it names the cluster that it ran on."""
    builder = made.red_image(tmp_path)
    builder.record.cluster = "nu1"
    builder.record.parameters = {"provider": "existing", "cluster": "nu1", "image_prefix": "reg.test/x",
                                 "profile_named": "my own.toml"}  # fmt: skip
    run = builder.write()
    diagnose(run)
    write_reports(run)
    at_home = "`./e2e run --provider existing --cluster nu1 --image-prefix reg.test/x --scenarios users"
    assert at_home in run.report.read_text("utf-8")
    for name in ("pr-comment.md", "step-summary.md"):
        told = run.path(name).read_text("utf-8")
        assert "**Again (in the project)**: `./e2e run --scenarios users --profile 'my own.toml'`" in told
        assert "Timeline of the run" not in told


def test_each_fact_stands_once_on_the_first_screen(tmp_path):
    """A wrong value is the title; its message is told once, with its source, and with the command to run it again."""
    builder = made.green(tmp_path)
    differs, passed = 'ConfigMap cm-hello: data.GREETING is "hi", expected "ho"', "nowhere: passed publish, build"
    made.fail(builder, last_seen=differs, stuck_at=passed, source="scenarios/users.yaml:8")
    builder.results.scenarios[0].source = "/home/me/my file.yaml"
    step = builder.results.scenarios[0].steps[1]
    step.message = f"waited 10 s for ConfigMap cm-hello; last seen: {differs}; stuck at {passed}"
    builder.record.cluster = "mine"
    builder.record.parameters = {"cluster": "mine", "provider": "auto", "scenarios": ["my file.yaml"]}
    run = builder.write()
    diagnose(run)
    write_reports(run)
    text = run.report.read_text("utf-8")
    screen = text.split("## 2.")[0].split("## 1.")[1]
    assert "GREETING is" in next(line for line in text.splitlines() if line.startswith("# FAILED"))
    assert screen.count(differs) == 1
    assert screen.count("all stations passed") == 1
    assert "nowhere" not in text
    assert "**Source**: `scenarios/users.yaml:8`" in screen
    assert "**Cluster**: `mine` (local)" in screen
    assert "`./e2e run --cluster mine --scenarios 'my file.yaml'`" in screen
    assert "<summary>1 passed and 1 skipped step(s)</summary>" in text


def test_a_green_run_reads_green(tmp_path):
    """A run that passed names no cause and no finding."""
    run = made.green(tmp_path).write()
    diagnose(run)
    write_reports(run)
    text = run.report.read_text("utf-8")
    assert "# PASSED: 3 of 3 steps passed" in text
    assert "top_finding: null" in text
    assert "Cause" not in text.split("## 2.")[0].split("# PASSED")[1].replace("Verdict and cause", "")


def test_actions_name_their_pod_where_several_wrote(tmp_path):
    """A repair by the successor of a killed operator is told from what the killed one did."""
    builder = made.green(tmp_path)
    killed = builder.actions[0]
    builder.actions += [msgspec.structs.replace(killed, seq=1, pod_uid="u2", pod="operator-b")]
    run = builder.write()
    diagnose(run)
    write_reports(run)
    report = (run.root / "REPORT.md").read_text()
    assert "| fields or reason | pod |" in report or "| ms | pod |" in report
    assert report.count("`operator-b` |") == 1


def test_a_failed_deploy_puts_its_error_first(tmp_path):
    """Without results, the stage's error line and hint are the first screen."""
    builder = made.RunBuilder(tmp_path)
    builder.stage("deploy", 0, 9, "failed", "no space left while writing /x", exit_code=3, hint="free some space")
    run = builder.write()
    run.results.unlink()
    diagnose(run)
    write_reports(run)
    screen = "\n".join(run.report.read_text("utf-8").splitlines()[:40])
    assert "# FAILED: stage deploy" in screen
    assert "no space left while writing /x" in screen
    assert screen.count("free some space") == 1
    suite = ET.fromstring(run.path("junit.xml").read_bytes())  # noqa: S314 - written by us
    assert suite.find("testsuite/testcase/error").get("message") == "stage deploy: no space left while writing /x"


def test_sections_stand_in_order(red):
    """Sections 1 to 10 are all there, in order."""
    write_reports(red)
    numbers = [line.split(".")[0][3:] for line in red.report.read_text("utf-8").splitlines() if line.startswith("## ")]
    assert numbers == [str(number) for number in range(1, 11)]


def test_junit_counts_what_ran(red):
    """junit.xml has a suite a scenario with its failures, skips and the failure's text."""
    write_reports(red)
    root = ET.fromstring(red.path("junit.xml").read_bytes())  # noqa: S314 - written by us
    assert (root.get("tests"), root.get("failures"), root.get("skipped")) == ("3", "1", "1")
    failure = root.find("testsuite/testcase/failure")
    assert failure.get("message") == "waited 20 s for deploy-users"
    assert "status.availableReplicas: expected 1" in failure.text


def test_comment_has_its_marker_and_no_links(red):
    """The comment begins with the hidden marker, and links nothing that GitHub could not find."""
    write_reports(red)
    text = red.path("pr-comment.md").read_text("utf-8")
    assert text.startswith("<!-- k8s-e2e -->\n### ❌ FAILED: `step users/02 (deployment is available)")
    assert "](" not in text
    assert len(text) < 60_000


def test_the_first_screen_of_a_comment_is_what_a_reviewer_needs(red):
    """Before the first fold stand what failed, why, what mends it and how to run it again, each on one line."""
    write_reports(red)
    screen = red.path("pr-comment.md").read_text("utf-8").split("<details>")[0]
    names = [line.split("**")[1].partition(" (")[0] for line in screen.splitlines() if line.startswith("- **")]
    assert names == ["Verdict", "Failed", "Cause", "Fix", "Next", "Again", "Message"]
    assert "users/02" in screen
    assert "Image example.test/users:nope does not exist" in screen
    assert len(screen) < 1500


def test_the_comment_of_a_passed_run_is_calm(tmp_path):
    """A run that passed is told in a title and two lines; all else is folded, and no single step is listed."""
    builder = made.green(tmp_path)
    builder.scenario("long", *[made.step(number, number, 1, scenario="long") for number in range(1, 61)])
    run = builder.write()
    diagnose(run)
    write_reports(run)
    text = run.path("pr-comment.md").read_text("utf-8")
    open_lines = [line for line in text.split("<details>")[0].splitlines() if line]
    assert open_lines[:2] == ["<!-- k8s-e2e -->", "### ✅ PASSED: 63 of 63 steps passed"]
    assert len(open_lines) <= 4
    assert "long/05 step 5" not in text.split("Timeline")[0]


def test_several_failed_steps_stand_open(tmp_path):
    """Where more than one step failed, their table is not folded."""
    builder = made.red_image(tmp_path)
    builder.scenario("second", made.step(1, 60, 2, "failed", scenario="second", message="no answer"))
    run = builder.write()
    diagnose(run)
    write_reports(run)
    text = run.path("pr-comment.md").read_text("utf-8")
    before = text[: text.index("| `second/01")]
    assert before.count("<details>") == before.count("</details>")


def test_the_picture_shows_every_step_of_a_long_scenario(tmp_path):
    """Sixty steps have sixty rows, and a run's own name in theirs is shortened, not their end cut off."""
    builder = made.green(tmp_path)
    name = "its Deployments of env-shop-20260102-030405-37f6-bde2af are gone"
    builder.scenario("long", *[made.step(number, number, 1, name=name, scenario="long") for number in range(1, 61)])
    drawn = Run.open(builder.write().root).plot_timeline()
    rows = [row.get_text() for row in drawn.axes[0].get_yticklabels()]
    assert sum(row == f"long/{number:02d} its Deployments of env-shop-…-bde2af are gone" for number, row in
               enumerate([row for row in rows if row.startswith("long/")], 1)) == 60  # fmt: skip
    assert not [row for row in rows if "more steps" in row]


def test_perfetto_export_has_every_item(red):
    """Each timeline item is one event of the export, on the process of its lane."""
    write_reports(red)
    items = json.loads(red.timeline.read_text())["items"]
    events = json.loads(red.path("exports/timeline.perfetto.json").read_text())["traceEvents"]
    drawn = [event for event in events if event["ph"] != "M"]
    assert len(drawn) == len(items)
    lanes = {event["pid"]: event["args"]["name"] for event in events if event["name"] == "process_name"}
    assert {lanes[event["pid"]] for event in drawn} == {item["lane"] for item in items}


def test_timeline_puts_all_sources_on_one_clock(red):
    """Seconds count from the run's start, whichever file a time came from."""
    write_reports(red)
    timeline = json.loads(red.timeline.read_text())
    assert timeline["epoch"] == made.at(0)
    found = {(item["lane"], item["title"]): item for item in timeline["items"]}
    assert found["steps", "users/02 deployment is available"]["start_s"] == 50.0
    assert found["spans", "registry POST /v1/packages"]["start_s"] == 35.0
    assert found["screenshots", "01-console /environments"]["start_s"] == 50.0
    assert found["pods", "deploy-users-8f-q2: not ready"]["status"] == "failed"
    assert {item["lane"] for item in timeline["items"]} == {
        "stages", "steps", "pods", "actions", "events", "requests", "spans", "screenshots",
    }  # fmt: skip


def inputs(root: Path) -> list[str]:
    """Return the observed files of a run directory."""
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A run with every observed file."""
    return made.red_crash(tmp_path_factory.mktemp("whole") / "run").write().root


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_file_may_be_absent_or_broken(whole, tmp_path_factory, data):
    """Whatever subset of files is gone or garbage, the report is written and names each one."""
    names = inputs(whole)
    gone = data.draw(st.sets(st.sampled_from(names)))
    broken = data.draw(st.sets(st.sampled_from(names))) - gone
    garbage = data.draw(
        st.sampled_from([b"", b"\xff\xfe\x00", b"[]", b'{"schema_version": 99}', b"{" * 2000, b"null\n"])
    )
    root = tmp_path_factory.mktemp("part") / "run"
    shutil.copytree(whole, root)
    for name in gone:
        (root / name).unlink()
    for name in broken:
        (root / name).write_bytes(garbage)
    run = RunDir(root)
    found = diagnose(run)
    assert set(write_reports(run)) >= EXPECTED - {"scenarios/users/report.md"}
    text = run.report.read_text("utf-8")
    assert text.startswith("---\n")
    assert len(text.encode()) <= 48 * 1024
    spots = " ".join(found.blind_spots)
    for name in gone & {"run.json", "k8s-e2e-results.json", "k8s/history.jsonl", "k8s/events.jsonl", "traces.json"}:
        assert name in spots


def test_an_empty_directory_is_told(tmp_path):
    """A directory without any file gets a report that says that nothing is known."""
    run = RunDir(tmp_path)
    diagnose(run)
    write_reports(run)
    text = run.report.read_text("utf-8")
    assert "# INCOMPLETE: run.json records no stage" in text
    assert "run.json: absent" in text


def test_nothing_is_left_behind(red):
    """No temporary file stays beside the reports."""
    write_reports(red)
    assert not [path for path in red.root.rglob(".*") if os.path.basename(path).startswith(".")]  # noqa: PTH119
