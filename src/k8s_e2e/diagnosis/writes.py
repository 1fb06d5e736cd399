"""What became of an operator's write, by whatever words its log has for it."""

from k8s_e2e.model.evidence import Action

_DONE = ("ok", "success", "succeeded", "applied", "created", "updated", "deleted", "done", "unchanged", "skipped")
_REFUSING = ("conflict", "refuse")
_HTTP_ERROR = 400


def failed(action: Action) -> bool:
    """Whether a write was refused, in conflict, or of an outcome nobody knows.

    Its own word decides, since deleting what is gone is done, with a 404; without one its HTTP status does.
    """
    if action.action.lower() in _REFUSING:
        return True
    if not action.outcome:
        return action.http_status >= _HTTP_ERROR
    return action.outcome.lower() not in _DONE
