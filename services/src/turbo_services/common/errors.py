"""The errors of the HTTP API.

ApiError
 +- BadRequest            400 bad_request
 +- NotFound              404 not_found
 +- Conflict              409 conflict
 +- TooLarge              413 too_large
 +- UnsupportedMedia      415 unsupported_media_type
 +- Unprocessable         422 unprocessable
 +- Unavailable           503 unavailable: a dependency is away
"""

from typing import ClassVar

import msgspec


class ErrorDetail(msgspec.Struct, frozen=True):
    """What went wrong: a stable code for programs, a sentence for people."""

    code: str
    message: str


class ErrorBody(msgspec.Struct, frozen=True):
    """The body of every answer that is an error."""

    error: ErrorDetail


class ApiError(Exception):
    """An answer with an error status; ``str()`` is its message."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal"


class BadRequest(ApiError):
    """The body, a field, a query parameter or a path is invalid."""

    status = 400
    code = "bad_request"


class NotFound(ApiError):
    """There is no such thing."""

    status = 404
    code = "not_found"


class Conflict(ApiError):
    """The request clashes with what exists."""

    status = 409
    code = "conflict"


class TooLarge(ApiError):
    """The body is over the limit."""

    status = 413
    code = "too_large"


class UnsupportedMedia(ApiError):
    """The body is not JSON by its Content-Type."""

    status = 415
    code = "unsupported_media_type"


class Unprocessable(ApiError):
    """Well-formed, but cannot be done (e.g. dependencies that cannot be resolved)."""

    status = 422
    code = "unprocessable"


class Unavailable(ApiError):
    """A dependency is away; try again."""

    status = 503
    code = "unavailable"


def body_of(code: str, message: str) -> bytes:
    """The JSON of an error body."""
    return msgspec.json.encode(ErrorBody(error=ErrorDetail(code=code, message=message)))
