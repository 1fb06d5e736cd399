"""Settings of a service: one frozen class each, read from environment variables.

A field ``builder_url`` is the variable ``BUILDER_URL``. Variables that are unset or empty take the default; the OTEL
ones are read by the OpenTelemetry SDK itself.
"""

import os
from collections.abc import Mapping
from typing import Annotated, Literal, TypeVar

import msgspec

Url = Annotated[str, msgspec.Meta(pattern="^https?://[^/]+")]
Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]


class SettingsError(Exception):
    """An environment variable is wrong; the message names it and says what is expected."""


class Settings(msgspec.Struct, frozen=True, kw_only=True, rename="upper"):
    """What every service reads from its environment."""

    port: Port = 8080
    """TCP port the HTTP API listens on; 0 = any free one."""
    host: str = "0.0.0.0"  # noqa: S104 - a pod is reached on its own address
    """Address the HTTP API listens on."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Lowest level that is logged."""
    data_dir: str = "/data"
    """Directory of the SQLite file; the only place besides /tmp that a service writes to."""


S = TypeVar("S", bound=Settings)


def load(cls: type[S], environ: Mapping[str, str] | None = None) -> S:
    """Read ``cls`` from ``environ`` (default: the process's own).

    Raises:
        SettingsError: a variable does not fit its type.
    """
    source = os.environ if environ is None else environ
    given = {
        field.encode_name: source[field.encode_name]
        for field in msgspec.structs.fields(cls)
        if source.get(field.encode_name)
    }
    if "LOG_LEVEL" in given:
        given["LOG_LEVEL"] = given["LOG_LEVEL"].lower()
    try:
        return msgspec.convert(given, cls, strict=False)
    except msgspec.ValidationError as error:
        text = str(error)
        name = text.rpartition("$.")[2].strip("`")
        expected = text.partition(" - at ")[0]
        raise SettingsError(f"environment variable {name}={given.get(name, '')!r}: {expected}") from error
