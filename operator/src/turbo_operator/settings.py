"""Settings from environment variables: one frozen class, read once at the start."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from urllib3.exceptions import LocationValueError
from urllib3.util import parse_url

from turbo_operator.core.desired import DEFAULT_IMAGE

_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_DURATION_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(h|ms|us|µs|ns|m|s)")
_UNITS_S = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_LEVELS = ("debug", "info", "warning", "error")
_LAST_PORT = 65535


class SettingsError(Exception):
    """An environment variable has a value that cannot be used; the message names it and what is expected."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What the operator is told.

    Attributes:
        mode: `dev` keeps graphs and objects in memory, `k8s` writes to a cluster.
        namespace: The one namespace the operator serves.
        builder_url: Where graphs are synced from; None for nowhere.
        poll_interval_s: How long a poll of the builder may be held.
        stub_image: Image of packages that have none.
        log_level: Lowest level that is logged; actions are logged always.
        port: TCP port of the HTTP API.
        kubeconfig: File to use outside of a cluster; None for the pod's service account or the default file.
        otlp_endpoint: Where spans go; handed to the components too.
    """

    mode: Literal["dev", "k8s"] = "dev"
    namespace: str = "default"
    builder_url: str | None = None
    poll_interval_s: float = 30.0
    stub_image: str = DEFAULT_IMAGE
    log_level: str = "info"
    host: str = "0.0.0.0"  # noqa: S104 - a pod is reached on its own address
    port: int = 8084
    kubeconfig: str | None = None
    otlp_endpoint: str | None = None


def load(environ: Mapping[str, str] | None = None) -> Settings:
    """The settings of the process.

    Raises:
        SettingsError: a variable has a value that cannot be used.
    """
    source = os.environ if environ is None else environ
    mode = source.get("OPERATOR_MODE") or "dev"
    if mode not in {"dev", "k8s"}:
        raise SettingsError(f"OPERATOR_MODE={mode!r}: must be dev or k8s")
    level = (source.get("LOG_LEVEL") or "info").lower()
    level = {"warn": "warning"}.get(level, level)
    if level not in _LEVELS:
        raise SettingsError(f"LOG_LEVEL={level!r}: must be one of {', '.join(_LEVELS)}")
    port = source.get("PORT") or "8084"
    if not port.isdecimal() or int(port) > _LAST_PORT:
        raise SettingsError(f"PORT={port!r}: must be a port number")
    builder_url = source.get("BUILDER_URL", "http://builder:8082").rstrip("/")
    if builder_url and not _is_http(builder_url):
        shown = re.sub(r"^(\w*://)?.*@", r"\1***@", builder_url, flags=re.DOTALL)  # a password is nobody's business
        raise SettingsError(f"BUILDER_URL={shown!r}: must be an http:// or https:// URL, or empty for no builder")
    try:
        poll_interval_s = parse_duration(source.get("POLL_INTERVAL") or "30s")
    except ValueError as error:
        raise SettingsError(f"POLL_INTERVAL: {error}") from error
    return Settings(
        mode=cast("Literal['dev', 'k8s']", mode),
        namespace=source.get("OPERATOR_NAMESPACE") or _pod_namespace() or "default",
        builder_url=builder_url or None,
        poll_interval_s=poll_interval_s,
        stub_image=source.get("STUB_IMAGE") or DEFAULT_IMAGE,
        log_level=level,
        host=source.get("HOST") or "0.0.0.0",  # noqa: S104 - a pod is reached on its own address
        port=int(port),
        kubeconfig=source.get("KUBECONFIG") or None,
        otlp_endpoint=source.get("OTEL_EXPORTER_OTLP_ENDPOINT") or None,
    )


def parse_duration(text: str) -> float:
    """Seconds of a Go-style duration such as 30s, 1m30s or 500ms.

    Raises:
        ValueError: `text` is not a positive one.
    """
    parts = _DURATION_PART.findall(text)
    if "".join(number + unit for number, unit in parts) != text or not parts:
        raise ValueError(f"{text!r} is not a duration such as 30s, 1m30s or 500ms")
    seconds = sum(float(number) * _UNITS_S[unit] for number, unit in parts)
    if seconds <= 0:
        raise ValueError(f"{text!r} is not longer than nothing")
    return seconds


def _is_http(url: str) -> bool:
    try:
        parts = parse_url(url)
    except LocationValueError:
        return False
    return parts.scheme in {"http", "https"} and bool(parts.host)


def _pod_namespace() -> str | None:
    try:
        return _NAMESPACE_FILE.read_text(encoding="utf-8").strip() or None
    except OSError:
        return None
