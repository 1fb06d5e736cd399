"""JSON Schemas of the run directory's files."""

import msgspec
import pytest
from jsonschema import Draft202012Validator

from k8s_e2e.base.errors import UsageError
from k8s_e2e.diagnosis import diagnose
from k8s_e2e.model.evidence import Actions
from k8s_e2e.model.schema import names, schema
from k8s_e2e.report import write_reports
from tests.unit import run_builder as made

FILES = {
    "run": "run.json", "results": "k8s-e2e-results.json", "manifest": "manifest.json", "derived": "derived.json",
    "actions": "k8s/operator-actions.json", "traces": "traces.json", "findings": "findings.json",
    "timeline": "timeline.json",
}  # fmt: skip
LINES = {"request": "requests.jsonl", "event": "k8s/events.jsonl", "object": "k8s/history.jsonl"}


def test_every_schema_accepts_the_files_it_is_for(tmp_path):
    """What the kit writes is what its schemas say."""
    run = made.red_image(tmp_path).write()
    diagnose(run)
    write_reports(run)
    for name, path in FILES.items():
        Draft202012Validator.check_schema(schema(name))
        Draft202012Validator(schema(name)).validate(msgspec.json.decode(run.path(path).read_bytes()))
    for name, path in LINES.items():
        for line in run.path(path).read_bytes().splitlines():
            Draft202012Validator(schema(name)).validate(msgspec.json.decode(line))


def test_actions_of_an_older_kit_are_read():
    """A run directory whose rows lack a newer key, and those that were empty, still loads and fits its schema."""
    row = {"time": "2026-01-02T03:04:05.000000Z", "action": "Create", "resource_kind": "Service", "resource_name": "a"}
    old = {"count": 1, "actions": [row]}
    Draft202012Validator(schema("actions")).validate(old)
    (action,) = msgspec.convert(old, Actions).actions
    assert (action.resource_name, action.span_id, action.fields, action.source) == ("a", "", [], "log")


def test_other_layers_add_their_own():
    """A schema that is not one of the models', such as that of scenarios, is found among the others."""
    more = {"scenario": lambda: {"title": "scenario"}}
    assert schema("scenario", more) == {"title": "scenario"}
    assert "scenario" in names(more)


def test_an_unknown_name_lists_the_known_ones():
    """A wrong name is one clear error."""
    with pytest.raises(UsageError, match=r"no schema is called 'runs'; known: actions, .*timeline"):
        schema("runs")
