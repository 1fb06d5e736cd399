"""The few requests that a cluster's first process sends: health of components, first objects. Lean: no library."""

import functools
import http.client
import json
import socket
import ssl
from typing import Any
from urllib.parse import urlsplit

from k8s_e2e.base.errors import EnvironmentFailure
from k8s_e2e.base.wait import Pending
from k8s_e2e.cluster.local.layout import API_PORT, INSIDE, NODE, NODE_IP

_TIMEOUT_S = 5.0
_CREATED = (200, 201, 409)  # 409: it is there already
API = f"https://{NODE_IP}:{API_PORT}"


@functools.cache
def _tls(*, verified: bool) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(INSIDE / "pki" / "ca.crt"))
    context.load_cert_chain(INSIDE / "pki" / "admin.crt", INSIDE / "pki" / "admin.key")
    if not verified:  # controller-manager and scheduler sign their own, on loopback
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def request(method: str, url: str, body: Any = None) -> tuple[int, bytes]:
    """Send one request; return status and body. Raises OSError or HTTPException when nobody answers."""
    parts = urlsplit(url)
    assert parts.hostname
    if parts.scheme == "https":
        tls = _tls(verified=url.startswith(API))
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(
            parts.hostname, parts.port, timeout=_TIMEOUT_S, context=tls
        )
    else:
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=_TIMEOUT_S)
    try:
        data = json.dumps(body) if body is not None else None
        connection.request(method, parts.path, data, {"Content-Type": "application/json"})
        reply = connection.getresponse()
        return reply.status, reply.read()
    finally:
        connection.close()


def listens(host: str, port: int) -> bool | Pending:
    """Probe whether anybody accepts connections."""
    try:
        socket.create_connection((host, port), _TIMEOUT_S).close()
    except OSError as error:
        return Pending(str(error))
    return True


def healthy(url: str) -> bool | Pending:
    """Probe a health endpoint."""
    try:
        status, body = request("GET", url)
    except (OSError, http.client.HTTPException) as error:
        return Pending(f"{type(error).__name__}: {error}")
    return True if status == 200 else Pending(f"{status}: {_failing(body)}")  # noqa: PLR2004


def get(path: str) -> Any | Pending:
    """Read one object from the API server."""
    try:
        status, body = request("GET", API + path)
    except (OSError, http.client.HTTPException) as error:
        return Pending(f"{type(error).__name__}: {error}")
    return json.loads(body) if status == 200 else Pending(f"{status} from {path}")  # noqa: PLR2004


def create(path: str, body: Any) -> bool | Pending:
    """Create one object.

    Raises:
        EnvironmentFailure: the API server refuses it for good.
    """
    try:
        status, said = request("POST", API + path, body)
    except (OSError, http.client.HTTPException) as error:
        return Pending(f"{type(error).__name__}: {error}")
    if status in _CREATED:
        return True
    text = said.decode(errors="replace")
    if status in (400, 415, 422):
        raise EnvironmentFailure(f"the API server refuses {body['kind']} {body['metadata']['name']}: {text}")
    return Pending(f"{status}: {text}")


def node_ready() -> bool | Pending:
    """Probe the node's Ready condition."""
    node = get(f"/api/v1/nodes/{NODE}")
    if isinstance(node, Pending):
        return node
    for condition in node["status"].get("conditions", []):
        if condition["type"] == "Ready":
            return True if condition["status"] == "True" else Pending(condition["message"])
    return Pending("it has no Ready condition yet")


def deployment_available(namespace: str, name: str) -> bool | Pending:
    """Probe a Deployment for its first available replica."""
    found = get(f"/apis/apps/v1/namespaces/{namespace}/deployments/{name}")
    if isinstance(found, Pending):
        return found
    status = found["status"]
    if status.get("availableReplicas"):
        return True
    pods = get(f"/api/v1/namespaces/{namespace}/pods")
    states = [] if isinstance(pods, Pending) else [_pod_state(pod) for pod in pods["items"]]
    return Pending(f"{status.get('readyReplicas', 0)} ready; {'; '.join(states) or 'no pod yet'}")


def exists(path: str) -> bool | Pending:
    """Probe whether an object is there."""
    found = get(path)
    return found if isinstance(found, Pending) else True


def _pod_state(pod: dict[str, Any]) -> str:
    for container in pod["status"].get("containerStatuses", []):
        waiting = container["state"].get("waiting")
        if waiting:
            return f"{pod['metadata']['name']}: {waiting.get('reason')} {waiting.get('message', '')}".strip()
    return f"{pod['metadata']['name']}: {pod['status'].get('phase')}"


def _failing(body: bytes) -> str:
    """Shorten a verbose healthz answer to its failing lines."""
    lines = body.decode(errors="replace").splitlines()
    return " ".join([line for line in lines if line.startswith("[-]")] or lines[:1])
