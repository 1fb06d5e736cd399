"""The Kubernetes API as raw JSON; the only module that touches the official `kubernetes` client.

The client is used for what it is good at: kubeconfig, authentication, TLS and pooled transport. Objects stay plain
dictionaries: its typed models cost 5-10 times the time and drop fields that they do not know. The client is imported
when the first connection is made (0.3 s beside the kit's own imports; its package imports all of itself, so importing
less of it saves nothing), so that everything that works offline does without it.
"""

import json
import logging
import ssl
import tempfile
import threading
import time
import urllib.parse
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, Self

import yaml

from k8s_e2e.base.errors import KitError
from k8s_e2e.platform.streams import Stream, Watch

__all__ = ["ApiError", "Kube", "Resource", "Stream", "Watch"]

POOL_SIZE = 32  # connections kept; watches hold one each
CONNECT_TIMEOUT_S = 5.0
FIELD_MANAGER = "k8s-e2e"
APPLY_PATCH = "application/apply-patch+yaml"
_DISCOVERY = (
    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,"
    "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList"
)
_TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
_REDISCOVER_S = 0.1  # a kind that is not known is looked up again, but not more often than this
_NOT_FOUND = 404
_CONFLICT = 409
_ERRORS_FROM = 400

log = logging.getLogger(__name__)
_connecting = threading.Lock()  # the client keeps its temporary certificate files in a global


class ApiError(KitError):
    """The API server refused (``status`` is HTTP's), or did not answer (``status`` 0).

    ``reason`` is Kubernetes' word for it, such as ``NotFound``, ``Conflict``, ``Forbidden``, ``Expired``; ``details``
    the whole Status object, where one came.
    """

    def __init__(self, status: int, reason: str, message: str, *, request: str = "", details: Any = None) -> None:
        answer = f"{status} {reason}" if status else "no answer"
        super().__init__(f"{request or 'API server'}: {answer}: {message}")
        self.status = status
        self.reason = reason
        self.message = message
        self.request = request
        self.details = details if isinstance(details, dict) else {}

    def __str__(self) -> str:
        return str(self.args[0])


class Resource(NamedTuple):
    """One kind that the server knows, as discovery has it; ``group`` is empty for the core group."""

    group: str
    version: str
    kind: str
    plural: str
    namespaced: bool
    verbs: tuple[str, ...] = ()

    @property
    def api_version(self) -> str:
        """``group/version``, or ``v1``."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None = None, name: str | None = None) -> str:
        """Return the URL path of the collection (no ``name``) or of one object; no ``namespace`` = all of them."""
        words = ["apis", self.group, self.version] if self.group else ["api", self.version]
        if self.namespaced and namespace:
            words += ["namespaces", namespace]
        words.append(self.plural)
        if name:
            words.append(name)
        return "/" + "/".join(urllib.parse.quote(word, safe="") for word in words)


class Kube:
    """One connection pool to one API server; every method may be called from any thread."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._kinds: dict[tuple[str, str], Resource] = {}
        self._discovered_at = 0.0
        self._discovering = threading.Lock()

    @classmethod
    def connect(cls, kubeconfig: Path, context: str = "") -> Self:
        """Read a kubeconfig; nothing is sent yet. Keys that stand in it are on disk only while they are loaded.

        Raises:
            ApiError: the kubeconfig is absent or wrong (status 0).
        """
        from kubernetes import client, config  # noqa: PLC0415 - see the module's docstring
        from kubernetes.config import ConfigException  # noqa: PLC0415

        settings = client.Configuration()
        settings.connection_pool_maxsize = POOL_SIZE
        settings.retries = False  # whoever calls knows what may be repeated
        if not kubeconfig.is_file():
            raise ApiError(0, "NoKubeconfig", "there is no such file", request=str(kubeconfig))
        with _connecting, tempfile.TemporaryDirectory(prefix="k8s-e2e-keys-") as keys:
            try:
                config.load_kube_config(  # type: ignore[no-untyped-call]
                    str(kubeconfig),
                    context=context or None,
                    client_configuration=settings,
                    persist_config=False,
                    temp_file_path=keys,
                )
                tls = _tls(settings)
            except (ConfigException, yaml.YAMLError, OSError, ValueError, TypeError, KeyError) as error:
                raise ApiError(0, "BadKubeconfig", str(error), request=str(kubeconfig)) from error
            settings.cert_file = settings.key_file = settings.ssl_ca_cert = None
            api = client.ApiClient(settings)
        if tls:
            api.rest_client.pool_manager.connection_pool_kw["ssl_context"] = tls
        api.user_agent = FIELD_MANAGER
        return cls(api)

    def close(self) -> None:
        """Close all connections."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # requests

    def request(
        self,
        method: str,
        path: str,
        *,
        query: dict[str, Any] | None = None,
        body: Any = None,
        content_type: str = "application/json",
        accept: str = "application/json",
        timeout_s: float = 10.0,
    ) -> Any:
        """Send one request and return its parsed JSON (None for an empty body). Never repeated.

        ``query`` values: true/false are written in lower case, None and empty ones are left out.

        Raises:
            ApiError: refused or unanswered.
        """
        response = self._send(
            method, path, query=query, body=body, content_type=content_type, accept=accept, timeout_s=timeout_s
        )
        data = self._read(response, f"{method} {path}")
        if not data:
            return None
        try:
            return json.loads(data)
        except ValueError as error:
            raise ApiError(
                0, "NotJSON", f"the answer is not JSON: {data[:200]!r}", request=f"{method} {path}"
            ) from error

    def raw(
        self,
        method: str,
        path: str,
        *,
        query: dict[str, Any] | None = None,
        body: Any = None,
        accept: str = "*/*",
        timeout_s: float = 10.0,
    ) -> bytes:
        """Send one request and return its body as it came.

        Raises:
            ApiError: refused or unanswered.
        """
        response = self._send(method, path, query=query, body=body, accept=accept, timeout_s=timeout_s)
        return self._read(response, f"{method} {path}")

    def _send(
        self,
        method: str,
        path: str,
        *,
        query: dict[str, Any] | None,
        accept: str,
        timeout_s: float,
        body: Any = None,
        content_type: str = "application/json",
    ) -> Any:
        """Send a request and return urllib3's response, its body unread; ``timeout_s`` bounds each silence."""
        from kubernetes.client.exceptions import OpenApiException  # noqa: PLC0415
        from urllib3.exceptions import HTTPError  # noqa: PLC0415

        said = f"{method} {path}"
        headers = {"Accept": accept, "User-Agent": FIELD_MANAGER}
        if body is not None:
            headers["Content-Type"] = content_type
        try:
            self._client.update_params_for_auth(headers, [], ["BearerToken"], path, method, body)
            answer = self._client.rest_client.request(
                method,
                self._client.configuration.host + path + _query(query),
                headers=headers,
                body=body,
                _request_timeout=(min(timeout_s, CONNECT_TIMEOUT_S), timeout_s),
            )
        except (HTTPError, OpenApiException, OSError) as error:
            reason = getattr(error, "reason", None) or error
            raise ApiError(0, type(error).__name__, _plain(reason), request=said) from error
        response = answer.response
        if response.status >= _ERRORS_FROM:
            raise self._refusal(response, said)
        return response

    def _refusal(self, response: Any, said: str) -> ApiError:
        data = b""
        with suppress(ApiError):
            data = self._read(response, said)
        try:
            status = json.loads(data)
        except ValueError:
            status = None
        if isinstance(status, dict) and status.get("kind") == "Status":
            reason = status.get("reason") or response.reason or ""
            return ApiError(response.status, reason, status.get("message") or reason, request=said, details=status)
        text = data.decode("utf-8", "replace").strip()
        return ApiError(response.status, response.reason or "", text[:1000] or "no message", request=said)

    @staticmethod
    def _read(response: Any, said: str) -> bytes:
        from urllib3.exceptions import HTTPError  # noqa: PLC0415

        try:
            data: bytes = response.read()
        except (HTTPError, OSError) as error:
            response.close()
            raise ApiError(0, type(error).__name__, f"the answer was cut: {error}", request=said) from error
        response.release_conn()
        return data

    # kinds

    def discover(self) -> list[Resource]:
        """Ask the server for every kind it knows (two requests), sub-resources left out, and remember them.

        Raises:
            ApiError: refused or unanswered.
        """
        found = []
        for path in ("/api", "/apis"):
            found += _resources(self.request("GET", path, accept=_DISCOVERY))
        self._kinds = {(resource.api_version, resource.kind): resource for resource in found}
        self._discovered_at = time.monotonic()
        return found

    def resource(self, api_version: str, kind: str) -> Resource:
        """Return one kind; one that is not known is asked for, so that a new CRD is found.

        Raises:
            ApiError: 404 if the server does not serve it; refused or unanswered.
        """
        key = (api_version, kind)
        if key not in self._kinds:
            with self._discovering:
                if key not in self._kinds and time.monotonic() - self._discovered_at > _REDISCOVER_S:
                    self.discover()
        try:
            return self._kinds[key]
        except KeyError:
            message = f"the server serves no {kind} in {api_version}"
            raise ApiError(_NOT_FOUND, "NotFound", message, request="discovery") from None

    # objects

    def get(self, api_version: str, kind: str, name: str, namespace: str = "") -> dict[str, Any] | None:
        """Return one object, or None if there is none (or no such kind).

        Raises:
            ApiError: refused or unanswered.
        """
        try:
            found: dict[str, Any] = self.request("GET", self.resource(api_version, kind).path(namespace, name))
        except ApiError as error:
            if error.status == _NOT_FOUND:
                return None
            raise
        return found

    def list(
        self,
        api_version: str,
        kind: str,
        namespace: str = "",
        *,
        selector: str = "",
        field_selector: str = "",
        limit: int = 0,
        timeout_s: float = 30.0,
    ) -> dict[str, Any]:
        """Return the List object of all that match; each item bears its kind and apiVersion.

        ``limit`` > 0 reads in pages of that size; all pages are read, and a token that expired meanwhile starts over
        without pages. ``metadata.resourceVersion`` is where a watch goes on.

        Raises:
            ApiError: refused (an unknown kind: 404) or unanswered.
        """
        path = self.resource(api_version, kind).path(namespace)
        query = {"labelSelector": selector, "fieldSelector": field_selector, "limit": limit}
        whole: dict[str, Any] = self.request("GET", path, query=query, timeout_s=timeout_s)
        items = whole.get("items") or []
        token = whole["metadata"].pop("continue", "")
        while token:
            try:
                page = self.request("GET", path, query={**query, "continue": token}, timeout_s=timeout_s)
            except ApiError as error:
                if error.reason != "Expired":
                    raise
                return self.list(api_version, kind, namespace, selector=selector, field_selector=field_selector)
            items += page.get("items") or []
            token = page["metadata"].get("continue", "")
        whole["metadata"].pop("remainingItemCount", None)
        whole["items"] = [{"apiVersion": api_version, "kind": kind, **item} for item in items]
        return whole

    def table(self, resource: Resource, namespace: str = "", *, timeout_s: float = 30.0) -> dict[str, Any]:
        """Return the server's own table of a kind: ``columnDefinitions`` (name, priority) and ``rows`` (cells).

        Raises:
            ApiError: refused or unanswered.
        """
        query = {"includeObject": "Metadata"}
        table: dict[str, Any] = self.request(
            "GET", resource.path(namespace), query=query, accept=_TABLE, timeout_s=timeout_s
        )
        return table

    def apply(
        self,
        obj: dict[str, Any],
        *,
        namespace: str = "",
        field_manager: str = FIELD_MANAGER,
        dry_run: bool = False,
    ) -> dict[str, Any]:
        """Server-side apply, forced; ``namespace`` is for a namespaced object that names none. Returns the live object.

        Raises:
            ApiError: refused or unanswered.
        """
        metadata = obj.get("metadata") or {}
        resource = self.resource(obj["apiVersion"], obj["kind"])
        live: dict[str, Any] = self.request(
            "PATCH",
            resource.path(metadata.get("namespace") or namespace, metadata["name"]),
            query={"fieldManager": field_manager, "force": True, "dryRun": "All" if dry_run else ""},
            body=obj,
            content_type=APPLY_PATCH,
        )
        return live

    def delete(self, api_version: str, kind: str, name: str, namespace: str = "", *, uid: str = "") -> bool:
        """Delete one object, its dependants in the background. False if it is not there.

        With ``uid`` only the object of that uid is meant: another one of the same name is left alone (False).

        Raises:
            ApiError: refused or unanswered.
        """
        options: dict[str, Any] = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
        if uid:
            options["preconditions"] = {"uid": uid}
        try:
            self.request("DELETE", self.resource(api_version, kind).path(namespace, name), body=options)
        except ApiError as error:
            if error.status == _NOT_FOUND or (uid and error.status == _CONFLICT):
                return False
            raise
        return True

    # streams

    def watch(
        self,
        resource: Resource,
        namespace: str = "",
        *,
        resource_version: str,
        name: str = "",
        selector: str = "",
        inactivity_s: float = 30.0,
    ) -> Watch:
        """Watch a collection from ``resource_version`` on, bookmarks and in-stream errors included.

        It ends after ``inactivity_s`` without any byte: a silent half-open connection is noticed like that. (The server
        sends a bookmark about once a minute; a shorter deadline just means to list and watch again when all is quiet.)

        Raises:
            ApiError: refused (410 ``Expired``: list again) or unanswered.
        """
        query = {
            "watch": True,
            "allowWatchBookmarks": True,
            "resourceVersion": resource_version,
            "labelSelector": selector,
            "fieldSelector": f"metadata.name={name}" if name else "",
        }
        return Watch(self._stream(resource.path(namespace), query, "application/json", inactivity_s))

    def logs(
        self,
        namespace: str,
        pod: str,
        container: str = "",
        *,
        previous: bool = False,
        follow: bool = False,
        timestamps: bool = True,
        since_s: float | None = None,
        limit_bytes: int | None = None,
        inactivity_s: float = 60.0,
    ) -> Stream:
        """Read a container's log as pieces of bytes (not lines); with ``follow`` until it ends.

        Raises:
            ApiError: refused (400 while the container has not started, 404) or unanswered.
        """
        path = Resource("", "v1", "Pod", "pods", namespaced=True).path(namespace, pod) + "/log"
        query = {
            "container": container,
            "previous": previous,
            "follow": follow,
            "timestamps": timestamps,
            "sinceSeconds": max(1, round(since_s)) if since_s is not None else None,
            "limitBytes": limit_bytes,
        }
        return self._stream(path, query, "*/*", inactivity_s)

    def _stream(self, path: str, query: dict[str, Any], accept: str, inactivity_s: float) -> Stream:
        return Stream(self._send("GET", path, query=query, accept=accept, timeout_s=inactivity_s))


def _query(query: dict[str, Any] | None) -> str:
    pairs = []
    for key, value in (query or {}).items():
        if value in (None, "", False) or (value == 0 and key == "limit"):
            continue
        pairs.append((key, "true" if value is True else value))
    return "?" + urllib.parse.urlencode(pairs) if pairs else ""


def _resources(discovery: Any) -> list[Resource]:
    """Read an APIGroupDiscoveryList (aggregated discovery); the first version of a group is the preferred one."""
    return [
        Resource(
            group=(group.get("metadata") or {}).get("name", ""),
            version=version["version"],
            kind=(entry.get("responseKind") or {}).get("kind", ""),
            plural=entry["resource"],
            namespaced=entry.get("scope") == "Namespaced",
            verbs=tuple(entry.get("verbs") or ()),
        )
        for group in discovery.get("items") or []
        for version in group.get("versions") or []
        for entry in version.get("resources") or []
    ]


def _tls(settings: Any) -> ssl.SSLContext | None:
    """Load certificates into one TLS context, so that their files can go and connections do not read them again."""
    from urllib3.exceptions import InsecureRequestWarning  # noqa: PLC0415

    if not settings.host.startswith("https"):
        return None
    context = ssl.create_default_context(cafile=settings.ssl_ca_cert)
    if not settings.verify_ssl:
        log.warning("the kubeconfig turns certificate checks off", extra={"server": settings.host})
        warnings.simplefilter("ignore", InsecureRequestWarning)  # said once, above, not with each request
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if settings.cert_file:
        context.load_cert_chain(settings.cert_file, settings.key_file)
    return context


def _plain(reason: Any) -> str:
    """Write a transport error without the addresses of Python objects."""
    text = str(reason)
    _, found, rest = text.partition(">: ")
    return rest if found else text
