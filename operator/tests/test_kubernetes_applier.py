"""How an answer of the API server, or the lack of one, becomes the outcome of a write."""

import copy
import threading
from collections.abc import Mapping
from typing import Any

import pytest
from specs import OPTIONS, OWNER, component, graph_of, spec

from turbo_operator.core import names
from turbo_operator.core.desired import desired
from turbo_operator.core.fields import applied_fields
from turbo_operator.core.plan import Action
from turbo_operator.kube.applier import KubernetesApplier
from turbo_operator.kube.client import ApiError, Unreachable

BODY = desired(graph_of(spec(component(env={"A": "1"}))), OWNER, OPTIONS)[0]
CREATE = Action("Create", "ConfigMap", "cm-users", "users", "missing", body=BODY)
UPDATE = Action("Update", "ConfigMap", "cm-users", "users", "differs", ("data.A",), BODY, "uid-1")
DELETE = Action("Delete", "ConfigMap", "cm-users", "users", "gone", uid="uid-1")
LOST = Unreachable("timed out", sent=True)
GONE = ApiError(404, "NotFound", "not found")


class Client:
    """Gives prepared answers in turn, and remembers the requests."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.requests: list[tuple[str, Mapping[str, Any]]] = []

    def path(self, kind: str, name: str | None = None, _: str | None = None) -> str:
        """Any path will do."""
        return f"/{kind}/{name}"

    def request(self, method: str, _: str, **more: Any) -> Any:
        """The next answer."""
        self.requests.append((method, more.get("body") or {}))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def _stored(body: Mapping[str, Any] = BODY, uid: str = "uid-1", **metadata: Any) -> dict[str, Any]:
    """`body` as the API server keeps it, applied by the operator."""
    obj = copy.deepcopy(dict(body))
    managed = {"manager": names.MANAGER, "operation": "Apply", "fieldsV1": applied_fields(body)}
    obj["metadata"] |= {"uid": uid, "resourceVersion": "7", "managedFields": [managed], **metadata}
    return obj


def _write(action: Action, *answers: Any) -> tuple[Any, Client]:
    client = Client(*answers)
    result = KubernetesApplier(client).write(action)  # type: ignore[arg-type]
    assert client.answers == []
    return result, client


def test_writes_are_bound_to_what_they_were_planned_for() -> None:
    """A create can only create, an update only change the object it knows, a delete only delete it."""
    result, client = _write(CREATE, _stored())
    assert (result.outcome, result.http_status) == ("ok", 201)
    assert client.requests[0][1]["metadata"]["resourceVersion"] == "1"
    _, client = _write(UPDATE, _stored())
    assert client.requests[0][1]["metadata"]["uid"] == "uid-1"
    assert "resourceVersion" not in client.requests[0][1]["metadata"]
    _, client = _write(DELETE, {"kind": "Status"})
    assert client.requests[0][1]["preconditions"] == {"uid": "uid-1"}


@pytest.mark.parametrize(
    ("action", "found", "outcome"),
    [
        (CREATE, _stored(), "ok"),
        (CREATE, GONE, "failed"),
        (CREATE, LOST, "unknown"),
        (CREATE, ApiError(500, "InternalError", "x"), "unknown"),
        (UPDATE, _stored(), "ok"),
        (UPDATE, _stored({**BODY, "data": {"A": "0"}}), "failed"),
        (DELETE, GONE, "ok"),
        (DELETE, _stored(uid="another"), "ok"),
        (DELETE, _stored(deletionTimestamp="2026-01-01T00:00:00Z"), "ok"),
        (DELETE, _stored(), "failed"),
    ],
)
@pytest.mark.parametrize("lost", [LOST, ApiError(504, "Timeout", "x")], ids=["no answer", "504"])
def test_a_lost_answer_is_read_back(lost: Exception, action: Action, found: Any, outcome: str) -> None:
    """Whether a write without an answer landed is read from the object; only if that fails is it unknown."""
    result, client = _write(action, lost, found)
    assert result.outcome == outcome
    assert [method for method, _ in client.requests][1:] == ["GET"]
    if outcome == "ok" and action is not DELETE:
        assert result.obj is not None


def test_r06_a_read_back_that_is_put_off_says_for_how_long() -> None:
    """Whoever asks again heeds what the API server answered to the question."""
    result, _ = _write(UPDATE, LOST, ApiError(429, "TooManyRequests", "slow down", retry_after_s=7.0))
    assert (result.outcome, result.retry_after_s) == ("unknown", 7.0)


def test_what_never_left_is_failed_and_not_read_back() -> None:
    """A connection that was refused has written nothing."""
    result, client = _write(CREATE, Unreachable("refused", sent=False))
    assert not result.sent
    assert (result.outcome, result.http_status) == ("failed", 0)
    assert len(client.requests) == 1


def test_a_create_that_finds_an_object_is_a_conflict_with_that_object() -> None:
    """409 on a create, and another uid on an update, bring back what stands there now."""
    foreign = _stored({**BODY, "data": {}}, uid="foreign")
    result, _ = _write(CREATE, ApiError(409, "Conflict", "has been modified"), foreign)
    assert (result.outcome, result.http_status) == ("conflict", 409)
    assert result.obj["metadata"]["uid"] == "foreign"
    result, _ = _write(UPDATE, ApiError(422, "Invalid", "immutable", causes=("metadata.uid",)), foreign)
    assert (result.outcome, result.http_status) == ("conflict", 422)
    result, _ = _write(UPDATE, ApiError(409, "Conflict", "uid mismatch"), GONE)
    assert (result.outcome, result.obj) == ("conflict", None)


@pytest.mark.parametrize(
    ("error", "refused", "retry_after_s"),
    [
        (ApiError(403, "Forbidden", "no"), True, None),
        (ApiError(422, "Invalid", "spec.x", causes=("spec.x",)), True, None),
        (ApiError(429, "TooManyRequests", "later", 7.0), False, 7.0),
        (ApiError(500, "InternalError", "etcd"), False, None),
        (ApiError(503, "ServiceUnavailable", "later", 2.0), False, 2.0),
    ],
)
def test_errors_say_whether_and_when_to_try_again(error: ApiError, *, refused: bool, retry_after_s: Any) -> None:
    """A refusal will be repeated, an overload passes: the wait asked for is handed on."""
    result, _ = _write(UPDATE, error)
    assert (result.outcome, result.refused, result.retry_after_s) == ("failed", refused, retry_after_s)
    assert error.message in result.message


def test_deleting_what_is_gone_is_done() -> None:
    """404 on a delete is success; an object that finalizers keep is still there."""
    result, _ = _write(DELETE, GONE)
    assert (result.outcome, result.http_status) == ("ok", 404)
    result, _ = _write(DELETE, _stored(finalizers=["x/y"], deletionTimestamp="2026-01-01T00:00:00Z"))
    assert result.outcome == "ok"
    assert result.obj is not None


def test_r23_a_lost_answer_is_not_read_back_when_the_operator_stops() -> None:
    """The outcome of a write in flight is told within the time that is left, as unknown."""
    client, stopping = Client(LOST), threading.Event()
    stopping.set()
    result = KubernetesApplier(client, stopping).write(UPDATE)  # type: ignore[arg-type]
    assert (result.outcome, len(client.requests)) == ("unknown", 1)
