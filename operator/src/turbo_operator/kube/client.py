"""HTTP to the API server: the official package's configuration, authentication and transport, with raw JSON bodies.

Errors are of two kinds, by what the caller does next:

    ApiError      the API server answered, with a status and a reason
    Unreachable   it did not answer; `sent` tells whether the request may have reached it
"""

import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, urlencode

import urllib3.exceptions

from turbo_operator.core import names
from turbo_operator.kube import package

APPLY = "application/apply-patch+yaml"
JSON = "application/json"
CONNECT_TIMEOUT_S = 2.0
READ_TIMEOUT_S = 7.0
"""An answer that takes longer is given up: SIGTERM leaves ten seconds for writes in flight, connecting included."""
LONGEST_RETRY_AFTER_S = 60.0
"""Whoever asks for a longer pause is asked again all the same: a proxy's day would blind a watch for a day."""
_TOKEN_KEPT_S = 10.0

RESOURCES = {
    names.GRAPH_KIND: (names.GRAPH_API_VERSION, "/apis/turboengine.io/v1", "apigraphs"),
    "ConfigMap": ("v1", "/api/v1", "configmaps"),
    "Service": ("v1", "/api/v1", "services"),
    "Deployment": ("apps/v1", "/apis/apps/v1", "deployments"),
    "Event": ("v1", "/api/v1", "events"),
}
"""Kind -> (apiVersion, URL prefix, plural)."""


class ApiError(Exception):
    """The API server refused or failed a request.

    Attributes:
        status: HTTP status, or the code of a Status object inside a stream.
        reason: The machine-readable reason, such as NotFound, Conflict, Expired.
        retry_after_s: What a Retry-After header asked for, a minute at most.
        causes: Fields named by the API server.
    """

    def __init__(
        self,
        status: int,
        reason: str,
        message: str,
        retry_after_s: float | None = None,
        causes: tuple[str, ...] = (),
    ) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message
        self.retry_after_s = retry_after_s
        self.causes = causes


class Unreachable(Exception):
    """No answer. `sent` is False where the request certainly never reached the API server."""

    def __init__(self, message: str, *, sent: bool) -> None:
        super().__init__(message)
        self.sent = sent


class KubeClient:
    """A thread-safe client of one API server and one namespace."""

    def __init__(self, configuration: Any, namespace: str, *, connections: int = 40) -> None:
        configuration.connection_pool_maxsize = connections
        configuration.retries = False  # every retry is decided by the caller, who knows what it repeats
        configuration.keep_alive = True
        self._configuration = configuration
        self._transport = package.transport_class()(configuration)
        self._auth_lock = threading.Lock()
        self._auth: tuple[float, str | None] = (0.0, None)
        self.namespace = namespace
        self.host = str(configuration.host)

    @classmethod
    def from_environment(cls, namespace: str, kubeconfig: str | None = None) -> "KubeClient":
        """A client configured by the pod's service account, or by a kubeconfig file outside of a cluster.

        Raises:
            ValueError: neither is usable.
        """
        configuration = package.configuration_class()()
        in_cluster = bool(os.environ.get("KUBERNETES_SERVICE_HOST")) and kubeconfig is None
        try:
            if in_cluster:
                package.load_incluster_config(configuration)
            else:
                package.load_kube_config(configuration, kubeconfig)
        except Exception as error:
            where = "the pod's service account" if in_cluster else f"kubeconfig {kubeconfig or '(default place)'}"
            raise ValueError(f"no usable Kubernetes configuration from {where}: {error}") from error
        return cls(configuration, namespace)

    def path(self, kind: str, name: str | None = None, subresource: str | None = None) -> str:
        """URL path of a collection, an object or its subresource in the client's namespace."""
        _, prefix, plural = RESOURCES[kind]
        parts = [prefix, "namespaces", quote(self.namespace, safe=""), plural]
        if name is not None:
            parts.append(quote(name, safe=""))
        if subresource is not None:
            parts.append(subresource)
        return "/".join(parts)

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | list[dict[str, Any]] | None = None,
        content_type: str = JSON,
        read_timeout_s: float = READ_TIMEOUT_S,
    ) -> dict[str, Any]:
        """One request and its JSON answer.

        Raises:
            ApiError: an answer other than 2xx.
            Unreachable: no answer.
        """
        # The transport encodes JSON media types itself and takes others as text.
        content: Any = body if content_type.endswith("json") or body is None else json.dumps(body)
        response = self._send(
            method, path, query, body=content, content_type=content_type, read_timeout_s=read_timeout_s
        )
        try:
            data = response.data
        except urllib3.exceptions.HTTPError as error:
            raise Unreachable(f"{method} {path}: the answer broke off: {error}", sent=True) from error
        if response.status >= 300:  # noqa: PLR2004 - everything but success
            raise _api_error(response.status, response.headers, data)
        try:
            answer = json.loads(data) if data else {}
        except ValueError as error:
            raise Unreachable(f"{method} {path}: the answer is not JSON: {error}", sent=True) from error
        return answer if isinstance(answer, dict) else {}

    def stream(
        self, path: str, query: Mapping[str, str], *, silence_s: float, opened: Callable[[], None] = lambda: None
    ) -> Iterator[dict[str, Any]]:
        """The objects of a watch, one a line; ends when the API server ends it. `opened` is called at its beginning.

        Raises:
            ApiError: the watch was refused.
            Unreachable: it broke, a line was cut, or nothing arrived for `silence_s`.
        """
        response = self._send("GET", path, query, read_timeout_s=silence_s)
        try:
            if response.status >= 300:  # noqa: PLR2004 - everything but success
                raise _api_error(response.status, response.headers, response.data)
            opened()
            yield from _lines(response)
        except urllib3.exceptions.HTTPError as error:
            self._drop_idle(error)
            raise Unreachable(f"watch {path}: {type(error).__name__}: {error}", sent=True) from error
        except ValueError as error:
            raise Unreachable(f"watch {path}: a line is not JSON: {error}", sent=True) from error
        finally:
            response.close()  # the rest of a watch is not worth waiting for

    def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        *,
        read_timeout_s: float,
        body: Any = None,
        content_type: str = JSON,
    ) -> Any:
        url = f"{self.host}{path}" + (f"?{urlencode(query)}" if query else "")
        headers = {"Accept": JSON, "User-Agent": names.MANAGER}
        if body is not None:
            headers["Content-Type"] = content_type
        token = self._token()
        if token:
            headers["Authorization"] = token
        timeout = (CONNECT_TIMEOUT_S, read_timeout_s)
        try:
            return self._transport.request(method, url, headers=headers, body=body, _request_timeout=timeout).response
        except (urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError) as error:
            raise Unreachable(f"{method} {path}: {error}", sent=False) from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            self._drop_idle(error)
            raise Unreachable(f"{method} {path}: {type(error).__name__}: {error}", sent=True) from error
        except Exception as error:
            if type(error).__module__ == "kubernetes.client.exceptions":  # the transport's name for TLS errors
                raise Unreachable(f"{method} {path}: {getattr(error, 'reason', error)}", sent=False) from error
            raise

    def _drop_idle(self, error: Exception) -> None:
        """Where one connection has gone silent the idle ones most likely have too: they are not tried one by one."""
        if isinstance(error, urllib3.exceptions.TimeoutError):
            self._transport.pool_manager.clear()

    def _token(self) -> str | None:
        """The Authorization header. Asking the configuration costs 1.7 ms, so the answer is kept for some seconds."""
        now = time.monotonic()
        with self._auth_lock:
            if now >= self._auth[0]:
                self._auth = (now + _TOKEN_KEPT_S, self._configuration.get_api_key_with_prefix("BearerToken"))
            return self._auth[1]


def _lines(response: Any) -> Iterator[dict[str, Any]]:
    rest = b""
    for chunk in response.stream(None):
        rest += chunk
        if b"\n" not in chunk:
            continue
        *lines, rest = rest.split(b"\n")
        for line in lines:
            if line.strip():
                yield _event(line)
    if rest.strip():
        yield _event(rest)


def _event(line: bytes) -> dict[str, Any]:
    event = json.loads(line)
    if not isinstance(event, dict) or not isinstance(event.get("object"), dict):
        raise ValueError(f"not a watch event: {line[:80]!r}")  # noqa: TRY004 - malformed data, as the JSON errors are
    return event


def _api_error(status: int, headers: Mapping[str, str], data: bytes) -> ApiError:
    """An error from an answer whose body is a Status object, or anything else a proxy put there."""
    try:
        body = json.loads(data)
    except ValueError:
        body = None
    if not isinstance(body, dict):
        body = {"message": data[:200].decode(errors="replace")}
    details = body["details"] if isinstance(body.get("details"), dict) else {}
    retry_after = headers.get("Retry-After") or str(details.get("retryAfterSeconds") or "")
    seconds = min(float(retry_after), LONGEST_RETRY_AFTER_S) if retry_after.isdecimal() else None
    listed = details["causes"] if isinstance(details.get("causes"), list) else []
    causes = tuple(str(cause.get("field", "")) for cause in listed if isinstance(cause, dict))
    return ApiError(status, str(body.get("reason") or ""), str(body.get("message") or ""), seconds, causes)
