"""One description of an operation serves the router, the validation of requests and ``/openapi.json``."""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar, get_origin

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from turbo_services.common.errors import BadRequest, ErrorBody, TooLarge, UnsupportedMedia

MAX_BODY_BYTES: Final = 4 * 1024 * 1024
T = TypeVar("T")
Q = TypeVar("Q", bound=msgspec.Struct)


class NoQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of an operation without query parameters."""


@dataclass(frozen=True)
class Call:
    """A request whose body and query have been validated against the operation's types."""

    request: Request
    body: Any
    query: Any

    def body_as(self, kind: type[T]) -> T:
        """The validated body."""
        assert isinstance(self.body, kind)
        return self.body

    def query_as(self, kind: type[T]) -> T:
        """The validated query parameters."""
        assert isinstance(self.query, kind)
        return self.query

    def path(self, name: str) -> str:
        """A parameter of the path, decoded."""
        return str(self.request.path_params[name])


@dataclass(frozen=True)
class Operation:
    """A method on a path: what it takes, what it answers, who handles it."""

    method: str
    path: str
    summary: str
    handler: Callable[[Call], Awaitable[Response]]
    answers: Mapping[int, Any]
    """Status -> type of the body; None = no body; a str = its media type."""
    body: type[msgspec.Struct] | None = None
    query: type[msgspec.Struct] = NoQuery
    headers: Sequence[Mapping[str, object]] = field(default=())
    """Header parameters, as OpenAPI."""


def reply(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """``value`` as JSON."""
    return Response(msgspec.json.encode(value), status, headers, media_type="application/json")


async def read_body(request: Request) -> bytes:
    """The body.

    Raises:
        TooLarge: it is over `MAX_BODY_BYTES`, by its announcement or by what came.
    """
    announced = request.headers.get("content-length", "0")
    body = bytearray()
    if announced.isdigit() and int(announced) > MAX_BODY_BYTES:
        raise TooLarge(f"the body is over {MAX_BODY_BYTES} bytes")
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise TooLarge(f"the body is over {MAX_BODY_BYTES} bytes")
    return bytes(body)


def decode_body(body: bytes, content_type: str, kind: type[T]) -> T:
    """``body`` as ``kind``; an empty one as ``{}``.

    Raises:
        UnsupportedMedia: it is not announced as JSON.
        BadRequest: it is not JSON, a key is unknown or a value does not fit; the message names it.
    """
    if body and content_type.partition(";")[0].strip().lower() != "application/json":
        raise UnsupportedMedia(f"the body must be application/json, not {content_type or 'unnamed'}")
    try:
        return msgspec.json.decode(body or b"{}", type=kind)
    except msgspec.ValidationError as error:
        raise BadRequest(str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"the body is not JSON: {error}") from error


def decode_query(request: Request, kind: type[Q]) -> Q:
    """The query parameters as ``kind``.

    Raises:
        BadRequest: one is unknown, repeated or does not fit; the message names it.
    """
    lists = {f.encode_name for f in msgspec.structs.fields(kind) if get_origin(f.type) is list}
    given: dict[str, Any] = {}
    for name, value in request.query_params.multi_items():
        if name in lists:
            given.setdefault(name, []).append(value)
        elif name in given:
            raise BadRequest(f"query parameter {name!r} is given twice")
        else:
            given[name] = value
    try:
        return msgspec.convert(given, kind, strict=False)
    except msgspec.ValidationError as error:
        raise BadRequest(f"query parameters: {error}") from error


async def perform(operation: Operation, request: Request) -> Response:
    """Validate a request and hand it to its handler."""
    query = decode_query(request, operation.query)
    raw = await read_body(request)
    body: msgspec.Struct | None = None
    if operation.body is not None:
        body = decode_body(raw, request.headers.get("content-type", ""), operation.body)
    elif raw:
        raise BadRequest("this operation takes no body")
    return await operation.handler(Call(request, body, query))


def openapi(service: str, version: str, operations: Sequence[Operation]) -> dict[str, Any]:
    """The OpenAPI 3.1 description of ``operations``, from the types that validate them."""
    types = [t for o in operations for t in (o.body, *o.answers.values()) if t is not None and not isinstance(t, str)]
    schemas, components = msgspec.json.schema_components(
        [*types, ErrorBody], ref_template="#/components/schemas/{name}"
    )
    schema_of = dict(zip(map(repr, [*types, ErrorBody]), schemas, strict=True))

    def content(kind: Any) -> dict[str, Any]:
        if isinstance(kind, str):
            return {"content": {kind: {"schema": {"type": "string"}}}}
        return {"content": {"application/json": {"schema": schema_of[repr(kind)]}}} if kind is not None else {}

    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        described: dict[str, Any] = {
            "summary": operation.summary,
            "operationId": operation.handler.__name__,
            "parameters": [*_parameters(operation)],
            "responses": {
                str(status): {"description": operation.summary, **content(kind)}
                for status, kind in operation.answers.items()
            }
            | {"default": {"description": "error", **content(ErrorBody)}},
        }
        if operation.body is not None:
            required = any(f.required for f in msgspec.structs.fields(operation.body))
            described["requestBody"] = {"required": required, **content(operation.body)}
        paths.setdefault(re.sub(r":path}", "}", operation.path), {})[operation.method.lower()] = described
    return {
        "openapi": "3.1.0",
        "info": {"title": f"Turbo Engine {service}", "version": version},
        "paths": paths,
        "components": {"schemas": components},
    }


def _parameters(operation: Operation) -> list[Mapping[str, object]]:
    names = re.findall(r"{(\w+)(?::path)?}", operation.path)
    found: list[Mapping[str, object]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}} for name in names
    ]
    schema = msgspec.json.schema(operation.query)
    fields = schema["$defs"][operation.query.__name__]
    for name, kind in fields.get("properties", {}).items():
        required = name in fields.get("required", ())
        found.append({"name": name, "in": "query", "required": required, "schema": kind})
    return [*found, *operation.headers]
