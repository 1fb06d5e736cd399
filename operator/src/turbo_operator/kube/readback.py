"""What became of a write whose answer was lost."""

import threading
from collections.abc import Callable, Mapping
from typing import Any

from turbo_operator.applier import Result
from turbo_operator.kube.client import ApiError, KubeClient, Unreachable

_NOT_FOUND = 404
_TIMEOUT_S = 3.0


def read_back(
    client: KubeClient,
    stopping: threading.Event,
    kind: str,
    name: str,
    *,
    landed: Callable[[Mapping[str, Any] | None], bool],
    status: int,
    why: str,
) -> Result:
    """Read the object of a write; ok if the write landed, failed if not, unknown if it cannot be read.

    Args:
        client: Where from.
        stopping: No time is left to wait for two answers once it is set, and an outcome told beats none.
        kind: Of the object.
        name: Of the object.
        landed: Whether the write has landed, by the object as it is now; None if there is none.
        status: HTTP status of the write's answer, 0 without one.
        why: What is wrong with that answer.
    """
    if stopping.is_set():
        return Result("unknown", status, message=f"{why}; not read back, the operator stops")
    obj: dict[str, Any] | None
    try:
        obj = client.request("GET", client.path(kind, name), read_timeout_s=_TIMEOUT_S)
    except (ApiError, Unreachable) as error:
        if not isinstance(error, ApiError) or error.status != _NOT_FOUND:
            retry_after_s = error.retry_after_s if isinstance(error, ApiError) else None
            message = f"{why}; reading it back failed: {error}"
            return Result("unknown", status, message=message, retry_after_s=retry_after_s)
        obj = None
    if landed(obj):
        return Result("ok", status, obj, f"{why}; {'it landed' if obj is not None else 'it is gone'}")
    return Result("failed", status, obj, f"{why}; it did not land")
