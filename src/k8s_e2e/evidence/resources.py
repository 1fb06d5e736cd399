"""The full state of a namespace: every kind that can be listed, its objects and the server's own tables.

One request a kind fetches both: a Table whose rows carry their whole object.
"""

import json
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from k8s_e2e.evidence import tables
from k8s_e2e.evidence.parts import Parts
from k8s_e2e.evidence.secrets import Cleaner
from k8s_e2e.platform.kube import ApiError, Kube, Resource

WORKERS = 16
PAGE = 500
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
_SAME_AS_CORE = {("events.k8s.io", "events")}  # the same objects under another group
_CLUSTER = ("nodes", "persistentvolumes")
_RETRIES = 3
_TOO_MANY = 429


class Listing(NamedTuple):
    """All objects of one kind, with the server's table of them (without rows where it has none)."""

    resource: Resource
    items: list[dict[str, Any]]
    table: dict[str, Any]


def wanted(resources: Iterable[Resource], custom_resources: Iterable[str]) -> list[Resource]:
    """Choose what to list: every namespaced kind once, in its preferred version, and a few cluster-scoped ones.

    ``custom_resources`` (kinds' plurals with group, ``widgets.example.com``) decides about CRDs; those that are
    cluster-scoped themselves are chosen, too.
    """
    named = set(custom_resources)
    chosen: dict[tuple[str, str], Resource] = {}
    for resource in resources:
        key = (resource.group, resource.plural)
        if "list" not in resource.verbs or key in _SAME_AS_CORE or key in chosen:
            continue
        crds = bool(named) and key == ("apiextensions.k8s.io", "customresourcedefinitions")
        own = crds or f"{resource.plural}.{resource.group}" in named
        if resource.namespaced or own or (not resource.group and resource.plural in (*_CLUSTER, "namespaces")):
            chosen[key] = resource
    return list(chosen.values())


def fetch(
    kube: Kube, namespace: str, custom_resources: list[str], parts: Parts, *, timeout_s: float = 10.0
) -> list[Listing]:
    """List everything, concurrently; a kind that fails is a part of its own, and its own time-out at most.

    Kinds that may not be listed, which are many for an account with few rights, are one part together.
    """
    found: list[Listing] = []
    denied: list[str] = []
    began = time.monotonic()

    def one(resource: Resource) -> None:
        began = time.monotonic()
        kind = resource.plural + (f".{resource.group}" if resource.group else "")
        name = f"resources/{kind}"
        try:
            found.append(_list(kube, resource, namespace, custom_resources, timeout_s))
        except ApiError as error:
            if error.status in (404, 405):  # gone since discovery, or listed by no verb after all
                parts.add(name, "skipped", began, error=str(error))
            elif error.status in (401, 403):
                denied.append(kind)
            else:
                parts.add(name, "failed", began, error=str(error))

    with ThreadPoolExecutor(WORKERS, thread_name_prefix="list") as pool:
        list(pool.map(one, wanted(kube.discover(), custom_resources)))
    if denied:
        # The kinds that explain most come first: a long line is cut where it is shown.
        first = sorted(denied, key=lambda kind: (kind not in ("nodes", "secrets", "namespaces"), kind))
        parts.add("resources", "denied", began, error=f"{len(denied)} kinds may not be listed: {', '.join(first)}")
    return sorted(found, key=lambda listing: (listing.resource.kind, listing.resource.group))


def clean(listings: list[Listing], cleaner: Cleaner) -> None:
    """Make all objects and tables fit to be written, Secrets first: their values are looked for in the rest."""
    for listing in sorted(listings, key=lambda one: one.resource.kind != "Secret"):
        listing.items[:] = [cleaner.clean(item) for item in listing.items]
        for row in listing.table.get("rows") or []:
            row["cells"] = json.loads(cleaner.redactor.text(json.dumps(row.get("cells") or [])))


def as_list(listings: list[Listing]) -> dict[str, Any]:
    """Return all objects as one ``v1`` List, by kind and name, each once."""
    seen: set[str] = set()
    items = []
    for listing in listings:
        for item in sorted(listing.items, key=lambda one: one["metadata"].get("name", "")):
            uid = item["metadata"].get("uid", "")
            if not uid or uid not in seen:
                seen.add(uid)
                items.append(item)
    return {"apiVersion": "v1", "kind": "List", "metadata": {}, "items": items}


def as_text(listings: list[Listing], heading: str) -> str:
    """Return the server's tables of all kinds that have objects; events have files of their own."""
    texts = [heading]
    for listing in listings:
        resource = listing.resource
        title = resource.plural + (f".{resource.group}" if resource.group else "")
        if resource.kind != "Event" and (text := tables.render(title, listing.table, namespaced=resource.namespaced)):
            texts.append(text)
    return "\n".join(texts)


def _list(kube: Kube, resource: Resource, namespace: str, custom_resources: list[str], timeout_s: float) -> Listing:
    query: dict[str, Any] = {"limit": PAGE, "includeObject": "Object"}
    if resource.plural == "namespaces":
        query["fieldSelector"] = f"metadata.name={namespace}"
    items: list[dict[str, Any]] = []
    table: dict[str, Any] = {}
    path = resource.path(namespace)
    while True:
        page = _patient(lambda: kube.request("GET", path, query=query, accept=TABLE, timeout_s=timeout_s))
        rows = page.get("rows") or []
        items += [row.pop("object") for row in rows] if page.get("kind") == "Table" else page.get("items") or []
        if table:
            table["rows"] += rows
        elif page.get("kind") == "Table":
            table = {"columnDefinitions": page.get("columnDefinitions") or [], "rows": rows}
        query["continue"] = (page.get("metadata") or {}).get("continue", "")
        if not query["continue"]:
            break
    keep = _keep(resource, namespace, custom_resources)
    chosen = [index for index, item in enumerate(items) if keep(item)]
    if len(chosen) < len(items):
        table["rows"] = [table["rows"][index] for index in chosen] if table.get("rows") else []
        items = [items[index] for index in chosen]
    items = [{"apiVersion": resource.api_version, "kind": resource.kind, **item} for item in items]
    return Listing(resource, items, table)


def _keep(resource: Resource, namespace: str, custom_resources: list[str]) -> Callable[[dict[str, Any]], bool]:
    """Return what of a cluster-scoped kind belongs to the namespace."""
    if resource.plural == "persistentvolumes":
        return lambda item: ((item.get("spec") or {}).get("claimRef") or {}).get("namespace") == namespace
    if resource.plural == "customresourcedefinitions":
        return lambda item: item["metadata"]["name"] in custom_resources
    return lambda _: True


def _patient(send: Callable[[], Any]) -> Any:
    """Send, and again when the server asks for patience (429)."""
    for attempt in range(_RETRIES):
        try:
            return send()
        except ApiError as error:
            if error.status != _TOO_MANY or attempt == _RETRIES - 1:
                raise
            time.sleep(min(float(error.details.get("details", {}).get("retryAfterSeconds") or 1), 2.0))
    return None
