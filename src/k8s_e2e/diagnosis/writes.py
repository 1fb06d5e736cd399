"""What became of an operator's actions, by whatever words its log has for it."""

from collections.abc import Sequence
from typing import Literal

from k8s_e2e.model.evidence import Action

Became = Literal["written", "failed", "unknown", "withheld", "skipped"]
"""``withheld``: nothing was sent, since the object is somebody else's or what is asked for was refused; ``skipped``:
nothing was sent either, and by its words nothing is wrong."""

_DONE = ("ok", "success", "succeeded", "applied", "created", "updated", "deleted", "done", "unchanged")
_UNKNOWN, _SKIPPED = "unknown", "skipped"  # outcomes
_REFUSE = "refuse"
_WITHHOLDING = ("conflict", _REFUSE)  # actions
_HTTP_ERROR = 400


def became(action: Action) -> Became:
    """Return what became of ``action``.

    Its own word decides, since deleting what is gone is done, with a 404; without one its HTTP status does.
    """
    outcome = action.outcome.lower()
    if action.action.lower() in _WITHHOLDING:
        return "withheld"
    if outcome in (_UNKNOWN, _SKIPPED):
        return "unknown" if outcome == _UNKNOWN else "skipped"
    if not outcome:
        return "failed" if action.http_status >= _HTTP_ERROR else "written"
    return "written" if outcome in _DONE else "failed"


def reference(action: Action) -> str:
    """Return ``Kind/name`` of the object that ``action`` was about."""
    return f"{action.resource_kind}/{action.resource_name}"


def refusal(action: Action) -> bool:
    """Return whether ``action`` says that what is asked for is not accepted."""
    return action.action.lower() == _REFUSE


def later(actions: Sequence[Action]) -> dict[int, Action]:
    """Return, for the index of each action that wrote nothing for certain, the first later write of the same object.

    ``actions`` are in order of time; an index without such a write is absent.
    """
    found: dict[int, Action] = {}
    following: dict[str, Action] = {}
    for index in range(len(actions) - 1, -1, -1):
        action = actions[index]
        if became(action) == "written":
            following[reference(action)] = action
        elif reference(action) in following:
            found[index] = following[reference(action)]
    return found
