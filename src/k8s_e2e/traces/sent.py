"""What the kit sent, from requests.jsonl: the trace ids that must be there, and the spans that nobody else reports."""

from urllib.parse import urlsplit

import msgspec

from k8s_e2e.base import files
from k8s_e2e.model.layout import RunDir
from k8s_e2e.model.profile import Profile
from k8s_e2e.model.results import RequestRecord, Results


def requests(run: RunDir) -> list[RequestRecord]:
    """Return the requests of a run in the order they ended; a line that is none is left out."""
    found = []
    for line in files.read_lines(run.requests):
        try:
            found.append(msgspec.convert(line, RequestRecord, strict=False))
        except msgspec.ValidationError:
            continue
    return found


def span_id(record: RequestRecord) -> str:
    """Return the id of the kit's own span, which is the parent of the first one its request caused."""
    fields = record.traceparent.split("-")
    return fields[2] if len(fields) > 2 else ""  # noqa: PLR2004 - version, trace id, span id, flags


def expected(records: list[RequestRecord], profile: Profile) -> set[str]:
    """Return the trace ids that must have spans: answered requests to services that are traced.

    A readiness path is asked all the time, and services leave it out of their traces; it does not count.
    """
    return {record.trace_id for record in _traced(records, profile)}


def reached(records: list[RequestRecord], results: Results, profile: Profile) -> set[str]:
    """Return the services that must have spans: those that answered such requests, and those `trace` steps name."""
    asked = {record.service for record in _traced(records, profile)}
    for scenario in results.scenarios:
        for step in scenario.steps:
            if step.kind == "trace" and isinstance(step.expected, dict):
                asked.update(step.expected.get("services") or ())
    return asked


def _traced(records: list[RequestRecord], profile: Profile) -> list[RequestRecord]:
    traced = {service.name: service.ready for service in profile.services if service.traced}
    return [
        record
        for record in records
        if record.status and record.service in traced and urlsplit(record.url).path != traced[record.service]
    ]
