"""Section 10: what is in the run directory and when to open it, what was cut, redacted, and could not be seen."""

from pathlib import Path

from k8s_e2e.base.text import one_line
from k8s_e2e.diagnosis.facts import Facts
from k8s_e2e.model.story import Findings
from k8s_e2e.report.model import Block, Bullets, Code, Line, Link, Para, Section, Table, label

_INDEX = (
    ("findings.json", "you want every finding with its evidence"),
    ("k8s-e2e-results.json", "you want each step's expected and actual"),
    ("requests.jsonl", "you want what the kit asked, when, and with which trace"),
    ("k8s/events.txt", "you want what Kubernetes said, in order"),
    ("k8s/pod-descriptions.txt", "a pod does not start or is not ready"),
    ("k8s/logs", "you want what one container said, crashed and deleted ones too"),
    ("k8s/operator-actions.json", "an object is not what the operator should have made"),
    ("k8s/*.yaml", "a custom resource itself is in doubt: its spec or its status"),
    ("k8s/resources.json", "you want the final state of every object"),
    ("k8s/history.jsonl", "you want to know who changed an object, and when"),
    ("k8s/timeline.txt", "order matters: all sources on one clock"),
    ("trace-analysis.json", "something is slow"),
    ("traces.json", "you want each span (opens in the Jaeger UI)"),
    ("logs", "the run itself went wrong: kit, image builds, cluster components"),
    ("notebooks", "you want what each stage printed"),
    ("manifest.json", "you doubt that the evidence is complete or unchanged"),
)
_TRACES = ("trace-analysis.json", "traces.json")  # the first is written, and empty, where no traces are configured
_MOST = 15
_MADE_HERE = ("k8s/timeline.txt",)  # written with this report: listed from the first time on, so that it says the same


def section(facts: Facts, findings: Findings) -> Section:
    """Return section 10."""
    root = facts.observed.run.root
    index = [entry for entry in _INDEX if entry[0] not in _TRACES or facts.observed.configured("traces")]
    there = tuple((Link(path), words) for name, words in index for path in _paths(root, name))
    blocks: list[Block] = [Table(("open this", "when"), there)]
    ledger = _ledger(facts)
    if ledger:
        blocks.append(Bullets(tuple(ledger)))
    spots: list[Line] = [Code(one_line(spot, 200)) for spot in findings.blind_spots]
    left_out = facts.observed.record.unconfigured
    left = len(spots) - _MOST
    if left > 0:
        spots = [*spots[:_MOST], (f"{left} more in ", Link("findings.json"))]
    whole = "every file of a run is there" if not left_out else "all that the profile configures was collected"
    blocks.append(Bullets(("Blind spots:", spots)) if spots else Para(f"Blind spots: none; {whole}."))
    return Section(10, "Artifacts", tuple(blocks), ("manifest.json", "findings.json"))


def _paths(root: Path, name: str) -> list[str]:
    if name in _MADE_HERE:
        return [name]
    found = [path for path in sorted(root.glob(name)) if path.stat().st_size]  # no request sent: nothing to open
    return [path.relative_to(root).as_posix() for path in found]


def _ledger(facts: Facts) -> list[Line]:
    manifest = facts.observed.manifest
    cut = [file for file in manifest.files if file.truncated]
    lines: list[Line] = [label("Cut", Code(f"{file.path}: {file.truncated}")) for file in cut[:_MOST]]
    if manifest.redactions:
        words = ", ".join(f"{name} {count}" for name, count in sorted(manifest.redactions.items()))
        lines.append(label("Redacted", Code(words)))
    if manifest.files:
        size = sum(file.bytes for file in manifest.files)
        lines.append(label("Sealed", f"{len(manifest.files)} files, {size / 1e6:.1f} MB"))
    return lines
