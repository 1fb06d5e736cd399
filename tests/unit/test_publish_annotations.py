"""Annotations: one for each root cause, within GitHub's limits, and read back by it as they were meant."""

import re

from hypothesis import given
from hypothesis import strategies as st

from k8s_e2e.diagnosis import diagnose
from k8s_e2e.diagnosis.observed import Observed
from k8s_e2e.diagnosis.verdict import verdict
from k8s_e2e.model.results import Results
from k8s_e2e.model.run import RunRecord, StageOutcome
from k8s_e2e.model.story import Finding, Findings
from k8s_e2e.report.github.annotations import (
    Annotation,
    Place,
    annotations,
    command,
    commands,
    escaped_data,
    escaped_property,
)
from tests.unit import run_builder as made
from tests.unit.test_report_text import HOSTILE


def read_as_github(line):
    """Read one line as GitHub's runner does (`ActionCommand.TryParseV2`): level, properties, message, or None.

    Independent of the writer: split at the first ``::`` after the leading one, properties at ``,`` and ``=``, escapes
    undone with ``%25`` last.
    """
    line = line.strip()
    if not line.startswith("::") or line.find("::", 2) < 0:
        return None
    end = line.index("::", 2)
    level, _, listed = line[2:end].partition(" ")
    properties = {}
    for one in [part.strip() for part in listed.split(",") if part.strip()]:
        key, equals, value = one.partition("=")
        if equals:
            for escape, letter in (("%0D", "\r"), ("%0A", "\n"), ("%3A", ":"), ("%2C", ","), ("%25", "%")):
                value = value.replace(escape, letter)
            properties[key] = value
    message = line[end + 2 :]
    for escape, letter in (("%0D", "\r"), ("%0A", "\n"), ("%25", "%")):
        message = message.replace(escape, letter)
    return level, properties, message


texts = st.text(alphabet=st.characters(codec="utf-8")) | st.text(alphabet="%0123ACD:,=\r\n\t ab")


def nowhere(_):
    """A step that is in no file of the repository."""
    return Place()


def of(run, place_of=nowhere):
    """Return the annotations of a run directory."""
    found = diagnose(run)
    observed = Observed(run)
    return annotations(verdict(observed.record, observed.results), observed.results, found, place_of)


@given(texts)
def test_a_message_comes_back_as_it_was(text):
    """Whatever the message, one line is written, and reading it gives the message back."""
    line = f"::error title=t::{escaped_data(text)}x"
    assert not re.search(r"[\r\n]", line)
    assert read_as_github(line) == ("error", {"title": "t"}, f"{text}x")


@given(texts, texts)
def test_properties_come_back_as_they_were(file, title):
    """No value ends its property, begins another, or ends the command."""
    line = f"::warning file=a{escaped_property(file)}z,title=a{escaped_property(title)}z::message"
    level, properties, message = read_as_github(line)
    assert (level, message) == ("warning", "message")
    assert properties == {"file": f"a{file}z", "title": f"a{title}z"}


@given(st.lists(st.sampled_from([*HOSTILE, "100%", "%0A::error::x", "a,b=c:d", "%25"]), min_size=2, max_size=2))
def test_hostile_text_is_one_command(texts):
    """Text of a run, in a title and a message of several lines, gives one line that is the one annotation."""
    title, message = (text.encode("utf-8", "replace").decode() for text in texts)
    line = command(Annotation("error", title, f"first\n{message}", Place("scenarios/a,b:c.yaml", 3)))
    assert len(line.splitlines()) == 1
    level, properties, told = read_as_github(line)
    assert level == "error"
    assert set(properties) <= {"file", "line", "title"}
    assert (properties["file"], properties["line"]) == ("scenarios/a,b:c.yaml", "3")
    assert told.startswith("first")
    assert len(told) < 5000
    assert not [one for one in told.split("\n") if not one.isprintable()]


def test_a_run_that_passed_with_nothing_to_say_prints_nothing(tmp_path):
    """A green run without findings has no annotation."""
    assert commands(of(made.green(tmp_path).write())) == []


def test_a_cause_is_told_once_at_the_step_it_broke(tmp_path):
    """One root cause is one error, at the line where the failed step is written, with evidence, fix and next step."""
    builder = made.red_image(tmp_path)
    builder.results.scenarios[0].steps[1].source = "scenarios/users.yaml:8"
    (told,) = of(builder.write(), lambda step: Place(*step.source.split(":")))
    line = command(told)
    assert line.startswith(
        "::error file=scenarios/users.yaml,line=8,title=Image example.test/users%3Anope does not exist"
    )
    message = read_as_github(line)[2]
    assert message.startswith("step users/02")
    for word in ("evidence: k8s/", "fix: ", "next: "):
        assert f"\n{word}" in message


def test_a_failure_that_no_finding_explains_is_told_itself(tmp_path):
    """Without findings the failing step is the annotation."""
    run = made.red_crash(tmp_path).write()
    observed = Observed(run)
    told = annotations(verdict(observed.record, observed.results), observed.results, Findings(), nowhere)
    assert [(one.level, one.title) for one in told] == [("error", "step users/02 (deployment is available) failed")]
    assert "waited 20 s for deploy-users" in told[0].message


def test_a_run_without_results_is_told_by_its_verdict():
    """A run of which nothing is known is a warning that says so."""
    record = RunRecord(stages=[StageOutcome("deploy", "passed", made.at(0), 1.0)])
    (told,) = annotations(verdict(record, Results()), Results(), Findings(), nowhere)
    assert (told.level, told.title) == ("warning", "The run is incomplete")
    assert "stage test has no outcome" in told.message


def findings(severity, count):
    """Return so many findings of a severity."""
    made_up = [Finding(id=f"x{n}", severity=severity, fault="product", title=f"cause {n}") for n in range(count)]
    return Findings(findings=made_up)


def test_no_more_than_ten_of_a_level(tmp_path):
    """The tenth says how many are left out; each level has its own ten."""
    run = made.red_crash(tmp_path).write()
    observed = Observed(run)
    mixed = Findings(findings=findings("error", 25).findings + findings("warning", 10).findings)
    told = annotations(verdict(observed.record, observed.results), observed.results, mixed, nowhere)
    lines = commands(told)
    assert [sum(line.startswith(f"::{level} ") for line in lines) for level in ("error", "warning")] == [10, 10]
    assert lines[9] == "::error title=16 more::16 more errors are in findings.json"


def test_information_is_only_for_runs_that_passed(tmp_path):
    """What was over by itself is no news beside a failure; in a green run it is a notice."""
    for builder, expected in ((made.green(tmp_path / "a"), ["notice"]), (made.red_crash(tmp_path / "b"), ["error"])):
        run = builder.write()
        observed = Observed(run)
        told = annotations(verdict(observed.record, observed.results), observed.results, findings("info", 1), nowhere)
        assert [one.level for one in told] == expected
