"""The conditions of an APIGraph: the standard Kubernetes form of its status."""

from collections.abc import Mapping
from typing import Any

from turbo_operator.core.rollout import NOT_COMPARED, SIMULATED, Progress

_LISTED = 5
"""How many problems a message spells out."""
_DELETING = "the APIGraph is being deleted"

Verdict = tuple[str, str, str]
"""Status, reason, message of a condition."""


def conditions(
    verdicts: Mapping[str, Verdict], *, generation: int, previous: Mapping[str, Any] | None, now: str
) -> list[dict[str, Any]]:
    """The list of conditions in the form of `metav1.Condition`; transition times change only with the status."""
    before = {c.get("type"): c for c in (previous or {}).get("conditions") or ()}
    return [
        {
            "type": name,
            "status": state,
            "reason": reason,
            "message": message,
            "observedGeneration": generation,
            "lastTransitionTime": before[name]["lastTransitionTime"]
            if before.get(name, {}).get("status") == state and "lastTransitionTime" in before[name]
            else now,
        }
        for name, (state, reason, message) in verdicts.items()
    ]


def accepted(problems: list[str], *, refused: bool) -> Verdict:
    """Whether all of the spec can be used."""
    if not problems:
        return "True", "Accepted", ""
    return "False", "Refused" if refused else "PartlyRefused", listing(problems)


def applied(phase: str, progress: Progress, *, planned: bool, unused: int) -> Verdict:
    """Whether every object is as the graph wants it.

    Args:
        phase: Of the graph.
        progress: State of the writer.
        planned: This generation was compared with the cluster.
        unused: How many components are refused: there are no objects that could be applied of them.
    """
    if phase == "Deleting":
        return "False", phase, _DELETING
    if phase == "Failed":
        return "False", "Refused", "nothing is applied of a refused graph"
    for reason, messages in (("WriteFailed", progress.failures), ("Conflict", progress.conflicts)):
        if messages:
            return "False", reason, listing(_sentences(messages))
    if not planned or progress.pending:
        return "False", "Applying", listing(_sentences(progress.pending)) or NOT_COMPARED
    rest = f"all but {unused} component{'' if unused == 1 else 's'}, refused for what Accepted says"
    return "True", "AllApplied", rest if unused else ""


def ready(phase: str, rows: list[dict[str, Any]], *, planned: bool, simulated: bool) -> Verdict:
    """Whether every component runs; what else of the graph is amiss, Degraded tells.

    Args:
        phase: Of the graph.
        rows: Of its components.
        planned: This generation was compared with the cluster: a graph without components has no rows that say so.
        simulated: Nothing runs in truth.
    """
    if phase == "Deleting":
        return "False", phase, _DELETING
    if phase == "Failed":
        return "False", "Refused", "a refused graph has no components"
    missing = _rows([row for row in rows if row["phase"] != "Running"])
    if missing:
        running = f"{len(rows) - len(missing)} of {len(rows)} components run"
        return "False", "NotAvailable", f"{running}: {listing(missing)}"
    if not planned:
        return "False", "NotAvailable", NOT_COMPARED
    return ("True", "Simulated", SIMULATED) if simulated else ("True", "AllAvailable", "")


def progressing(phase: str, rows: list[dict[str, Any]]) -> Verdict:
    """Whether something is still on its way."""
    if phase in {"Reconciling", "Deploying", "Deleting"}:
        return "True", phase, ""
    if any(row["phase"] in {"Pending", "Deploying"} for row in rows):
        return "True", "Deploying", ""
    return "False", "Settled", ""


def degraded(phase: str, rows: list[dict[str, Any]], problems: list[str], progress: Progress) -> Verdict:
    """Whether something needs help."""
    if phase not in {"Failed", "Degraded"}:
        return "False", "AsExpected", ""
    if problems:
        return "True", "Refused", listing(problems)
    if progress.conflicts:
        return "True", "Conflict", listing(_sentences(progress.conflicts))
    if progress.failures:
        return "True", "WriteFailed", listing(_sentences(progress.failures))
    return "True", "RolloutFailed", listing(_rows([row for row in rows if row["phase"] == "Degraded"]))


def listing(sentences: list[str]) -> str:
    """The first few sentences and the number of the rest."""
    more = len(sentences) - _LISTED
    return "; ".join(sentences[:_LISTED]) + (f"; and {more} more" if more > 0 else "")


def _rows(rows: list[dict[str, Any]]) -> list[str]:
    return [f"{row['packageName']}: {row.get('message') or row['phase']}" for row in rows]


def _sentences(messages: Mapping[tuple[str, str], str]) -> list[str]:
    return [f"{kind} {name}: {text}" for (kind, name), text in sorted(messages.items())]
