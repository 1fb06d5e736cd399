"""A whole operator: each Bookshelf gets one ConfigMap for every board of books, and a status.

Standard library only. It lists, reconciles every shelf, and watches until something changes. What the API refuses is
told in the shelf's status and tried again; any other error ends the process.
"""

import json
import ssl
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
SERVER = "https://kubernetes.default.svc"
GROUP, MANAGER = "library.example.org", "bookshelf-operator"
NAMESPACE = (ACCOUNT / "namespace").read_text()
SHELVES = f"/apis/{GROUP}/v1/namespaces/{NAMESPACE}/bookshelves"
BOARDS = f"/api/v1/namespaces/{NAMESPACE}/configmaps"
TLS = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
APPLY = f"?fieldManager={MANAGER}&force=true"
RETRY_S, WATCH_S = 2.0, 60


def send(method: str, path: str, body: Any = None, *, timeout_s: float = 10.0) -> Any:
    """Send one request to the API server and return the open answer."""
    headers = {"Authorization": f"Bearer {(ACCOUNT / 'token').read_text()}"}
    if body is not None:
        headers["Content-Type"] = "application/apply-patch+yaml"  # JSON is YAML
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(SERVER + path, data=data, method=method, headers=headers)  # noqa: S310 - https
    return urllib.request.urlopen(request, context=TLS, timeout=timeout_s)  # noqa: S310 - https


def write(action: str, kind: str, path: str, body: Any = None) -> None:
    """Do one write, and tell it on one line of JSON: where k8s-e2e reads the operator's actions."""
    began = time.monotonic()
    told: dict[str, Any] = {"event": "operator.action", "action": action}
    told |= {"resource_kind": kind, "resource_name": path.partition("?")[0].removesuffix("/status").rpartition("/")[2]}
    try:
        with send("DELETE" if action == "Delete" else "PATCH", path, body) as answer:
            told |= {"outcome": "ok", "http_status": answer.status}
    except urllib.error.HTTPError as error:
        if (action, error.code) == ("Delete", 404):
            told |= {"outcome": "ok", "http_status": 404}
            return
        reason = json.load(error).get("message", "")
        told |= {"outcome": "failed", "http_status": error.code, "reason": reason}
        raise RuntimeError(reason) from error
    finally:
        told |= {"duration_ms": round((time.monotonic() - began) * 1000, 3), "time": datetime.now(UTC).isoformat()}
        print(json.dumps(told))  # noqa: T201 - its log


def reconcile(shelf: dict[str, Any], boards: dict[str, dict[str, Any]]) -> None:
    """Make the ConfigMaps of one shelf what its spec says, and write its status if that changed."""
    meta, spec = shelf["metadata"], shelf["spec"]
    books, width = spec["books"], spec["booksPerBoard"]
    owner = {"apiVersion": f"{GROUP}/v1", "kind": "Bookshelf", "name": meta["name"], "uid": meta["uid"]}
    wanted = {
        f"{meta['name']}-board-{number}": {"books": "".join(f"{title}\n" for title in books[at : at + width])}
        for number, at in enumerate(range(0, len(books), width), 1)
    }
    for name, data in wanted.items():
        if boards.get(name, {}).get("data") != data:
            about = {"name": name, "labels": {f"{GROUP}/bookshelf": meta["name"]}, "ownerReferences": [owner]}
            body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": about, "data": data}
            write("Update" if name in boards else "Create", "ConfigMap", f"{BOARDS}/{name}{APPLY}", body)
    for name in boards.keys() - wanted.keys():
        write("Delete", "ConfigMap", f"{BOARDS}/{name}")
    report(shelf, {"books": len(books), "boards": len(wanted)}, "True", "Arranged")


def report(shelf: dict[str, Any], counts: dict[str, int], ready: str, reason: str, message: str = "") -> None:
    """Write the status of a shelf, unless it says the same already."""
    meta, before = shelf["metadata"], shelf.get("status", {})
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    known = {"type": "Ready", "status": ready, "reason": reason, "message": message}
    last = (before.get("conditions") or [{}])[0]
    status = {**counts, "observedGeneration": meta["generation"], "conditions": [known | {"lastTransitionTime": now}]}
    if last | known == last and {**before, **counts, "observedGeneration": meta["generation"]} == before:
        return
    body = {"apiVersion": f"{GROUP}/v1", "kind": "Bookshelf", "metadata": {"name": meta["name"]}, "status": status}
    write("UpdateStatus", "Bookshelf", f"{SHELVES}/{meta['name']}/status{APPLY}", body)


def once() -> str:
    """Reconcile every shelf; return the version of the list that was read."""
    with send("GET", SHELVES) as answer:
        listed = json.load(answer)
    with send("GET", f"{BOARDS}?labelSelector={GROUP}/bookshelf") as answer:
        boards = json.load(answer)["items"]
    shelf_of = {board["metadata"]["name"]: board["metadata"]["labels"][f"{GROUP}/bookshelf"] for board in boards}
    shelves = {shelf["metadata"]["name"]: shelf for shelf in listed["items"]}
    for name, shelf_name in shelf_of.items():
        if shelf_name not in shelves:  # Kubernetes' garbage collector takes up to 30 s to hear of a new kind
            write("Delete", "ConfigMap", f"{BOARDS}/{name}")
    for name, shelf in shelves.items():
        own = {board["metadata"]["name"]: board for board in boards if shelf_of[board["metadata"]["name"]] == name}
        try:
            reconcile(shelf, own)
        except RuntimeError as error:
            report(shelf, {}, "False", "ApiRefused", str(error))
            time.sleep(RETRY_S)
            return ""
    return str(listed["metadata"]["resourceVersion"])


def main() -> None:
    """Reconcile for ever, whenever a shelf has changed."""
    while True:
        try:
            version = once()
            query = f"?watch=1&resourceVersion={version}&timeoutSeconds={WATCH_S}"
            if version:
                with send("GET", SHELVES + query, timeout_s=WATCH_S + 5) as changes:
                    changes.readline()
        except OSError as error:  # no connection, or refused: HTTPError is one, too
            print(json.dumps({"level": "warning", "msg": f"cannot read shelves yet: {error}"}))  # noqa: T201 - its log
            time.sleep(RETRY_S)


if __name__ == "__main__":
    main()
