"""What is derived from the sealed files: findings and the timeline."""

from typing import Literal

import msgspec

SCHEMA_VERSION = 1

Severity = Literal["error", "warning", "info"]
Fault = Literal["product", "harness", "data", "infrastructure", "ci", "unknown"]


class Finding(msgspec.Struct, omit_defaults=True, kw_only=True):
    """One cause, with what proves it. ``evidence`` holds pointers such as ``k8s/events.jsonl#L42``."""

    id: str
    severity: Severity
    fault: Fault
    title: str
    object: str = ""  # Kind/name
    time: str = ""
    step: str = ""
    detail: str = ""
    because: list[str] = []  # the chain, symptom first
    evidence: list[str] = []
    disproof: str = ""
    next_command: str = ""
    fix: str = ""


class Findings(msgspec.Struct, omit_defaults=True, kw_only=True):
    """`findings.json`, best explanation first. ``blind_spots`` says what could not be looked at."""

    schema_version: int = SCHEMA_VERSION
    findings: list[Finding] = []
    blind_spots: list[str] = []


class TimelineItem(msgspec.Struct, omit_defaults=True, kw_only=True):
    """One thing that happened. ``start_s`` and ``end_s`` count from the timeline's epoch; no end = a moment."""

    lane: str  # stages, steps, pods, events, actions, spans, requests, screenshots
    title: str
    start_s: float
    end_s: float | None = None
    status: str = ""  # ok, failed, warning, or empty
    detail: str = ""
    ref: str = ""  # evidence pointer
    row: str = ""  # what it belongs to inside its lane: a pod, a service, a step; empty = the lane itself


class Timeline(msgspec.Struct, omit_defaults=True, kw_only=True):
    """`timeline.json`: all sources on one clock; ``epoch`` is RFC 3339."""

    schema_version: int = SCHEMA_VERSION
    epoch: str = ""
    items: list[TimelineItem] = []
    left_out: dict[str, int] = {}  # lane -> how many items there are beyond those here
