"""What the operator relies on in an API server: the same sentences hold for the real one and for the fake.

Everything goes through the operator's own client, list-watch and writers. A fake that drifts from the real API server
fails here, and so does an API server that stops to do what the operator counts on.
"""

import copy
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fake_apiserver import fake_sandbox
from sandbox import Sandbox, wait
from specs import OPTIONS, component, graph_of, spec

from turbo_operator.core import names
from turbo_operator.core.desired import Object, Options, Owner, desired
from turbo_operator.core.fields import differences, owned_fields, slim
from turbo_operator.core.plan import Action
from turbo_operator.graphs import GraphChange, GraphWriteError
from turbo_operator.kube.applier import KubernetesApplier
from turbo_operator.kube.client import APPLY, RESOURCES, ApiError, KubeClient
from turbo_operator.kube.graphs import EventRecorder, KubernetesGraphs
from turbo_operator.kube.listwatch import ListWatch, Pace
from turbo_operator.store import Store, version

CHILDREN = ("ConfigMap", "Service", "Deployment")


@pytest.fixture(params=["fake", pytest.param("real", marks=[pytest.mark.cluster, pytest.mark.timeout(180)])])
def api(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Sandbox]:
    """A namespace of either API server."""
    if request.param == "real":
        yield request.getfixturevalue("sandbox")
    else:
        with fake_sandbox(tmp_path) as (_, sandbox):
            yield sandbox


@pytest.fixture
def client(api: Sandbox) -> KubeClient:
    """The operator's client, with the operator's rights."""
    return KubeClient.from_environment(api.namespace, str(api.kubeconfig))


@pytest.fixture
def applier(client: KubeClient) -> KubernetesApplier:
    """The operator's applier."""
    return KubernetesApplier(client)


RICH: dict[str, Any] = {
    "replicas": 0,
    "env": {"A": "1", "B": "2"},
    "resources": {"limits": {"cpu": "1", "memory": "1024Mi"}},
    "annotations": {names.ANNOTATION_PROBE_PATH: "/healthz"},
}
ROUTES = {"routes": [{"path": "/u", "targetComponent": "users", "targetPort": 9000}]}


def _wanted(api: Sandbox, value: Any = None, options: Options = OPTIONS) -> dict[str, Object]:
    """The objects of one component by kind, owned by an APIGraph that exists."""
    value = value or spec(component(**RICH), ingress=ROUTES)
    graph = api.apply(value)
    owner = Owner(graph["metadata"]["name"], graph["metadata"]["uid"])
    return {obj["kind"]: obj for obj in desired(graph_of(value), owner, options)}


def _create(body: Object) -> Action:
    return Action("Create", body["kind"], body["metadata"]["name"], "users", "missing", body=body)


def _update(body: Object, uid: str) -> Action:
    return Action("Update", body["kind"], body["metadata"]["name"], "users", "differs", body=body, uid=uid)


def _delete(body: Object, uid: str) -> Action:
    return Action("Delete", body["kind"], body["metadata"]["name"], "users", "gone", uid=uid)


def _made(applier: KubernetesApplier, body: Object) -> Object:
    result = applier.write(_create(body))
    assert result.outcome == "ok", result
    assert result.obj is not None
    return result.obj


def _error(client: KubeClient, method: str, path: str, **more: Any) -> ApiError:
    with pytest.raises(ApiError) as caught:
        client.request(method, path, **more)
    return caught.value


def test_versions_are_numbers_that_grow_over_all_kinds(api: Sandbox, applier: KubernetesApplier) -> None:
    """Every write of whatever kind has a higher resourceVersion, and a list is not older than what it shows."""
    found = [version(_made(applier, body)) for body in _wanted(api).values()]
    assert found[0] > 0
    assert found == sorted(set(found))
    for kind in CHILDREN:
        page = api.admin.request("GET", api.admin.path(kind))
        assert int(page["metadata"]["resourceVersion"]) >= max(map(version, page["items"]))


def test_a_create_makes_what_is_missing_and_never_touches_what_is_there(
    api: Sandbox, applier: KubernetesApplier
) -> None:
    """An apply bound to a version that no object has creates, or is a conflict that brings back what stands there."""
    for kind, body in _wanted(api).items():
        first = applier.write(_create(body))
        assert (first.outcome, first.obj and first.obj["kind"]) == ("ok", kind)
        assert (first.obj or {})["metadata"]["uid"]
        changed = copy.deepcopy(body)
        changed["metadata"]["annotations"]["x"] = "y"
        again = applier.write(_create(changed))
        assert (again.outcome, again.http_status) == ("conflict", 409)
        assert (again.obj or {})["metadata"]["uid"] == (first.obj or {})["metadata"]["uid"]
        assert "x" not in (again.obj or {})["metadata"]["annotations"]


def test_an_update_changes_only_the_object_it_was_planned_for(api: Sandbox, applier: KubernetesApplier) -> None:
    """With the uid of another object an apply is refused, and where nothing is it does not create."""
    for body in _wanted(api).values():
        result = applier.write(_update(body, "00000000-0000-0000-0000-000000000000"))
        assert (result.outcome, result.http_status, result.obj) == ("conflict", 409, None)
        made = _made(applier, body)
        changed = copy.deepcopy(body)
        changed["metadata"]["annotations"]["x"] = "y"
        stale = applier.write(_update(changed, "00000000-0000-0000-0000-000000000000"))
        assert stale.outcome == "conflict"
        assert stale.http_status in {409, 422}
        assert "x" not in (stale.obj or {})["metadata"]["annotations"]
        good = applier.write(_update(changed, made["metadata"]["uid"]))
        assert (good.outcome, good.http_status) == ("ok", 200)
        assert version(good.obj or {}) > version(made)


def test_a_delete_is_bound_to_the_uid(api: Sandbox, applier: KubernetesApplier) -> None:
    """Another uid is 409 and deletes nothing; the right one deletes; what is gone is 404 and done."""
    for kind, body in _wanted(api).items():
        uid = _made(applier, body)["metadata"]["uid"]
        wrong = applier.write(_delete(body, "00000000-0000-0000-0000-000000000000"))
        assert (wrong.outcome, wrong.http_status) == ("conflict", 409)
        assert (api.get(kind, body["metadata"]["name"]) or {})["metadata"]["uid"] == uid
        right = applier.write(_delete(body, uid))
        assert (right.outcome, right.http_status, right.obj) == ("ok", 200, None)
        assert api.get(kind, body["metadata"]["name"]) is None
        again = applier.write(_delete(body, uid))
        assert (again.outcome, again.http_status) == ("ok", 404)


def test_what_finalizers_keep_comes_back_from_the_delete(api: Sandbox, applier: KubernetesApplier) -> None:
    """The answer is the object with a deletionTimestamp; it goes, with a new version, when its finalizers do."""
    for kind, body in _wanted(api).items():
        name = body["metadata"]["name"]
        uid = _made(applier, body)["metadata"]["uid"]
        api.patch(kind, name, {"metadata": {"finalizers": ["example.com/wait"]}})
        result = applier.write(_delete(body, uid))
        assert result.outcome == "ok"
        assert (result.obj or {})["metadata"]["deletionTimestamp"]
        assert (api.get(kind, name) or {})["metadata"]["uid"] == uid
        api.patch(kind, name, {"metadata": {"finalizers": None}})
        assert api.get(kind, name) is None


def test_a_graph_is_deleted_likewise(api: Sandbox, client: KubeClient) -> None:
    """The delete of an APIGraph is bound to its uid, tells what finalizers keep, and nothing when it is gone."""
    graphs = KubernetesGraphs(client)
    graph = api.apply(spec(component()))
    other = {"metadata": {**graph["metadata"], "uid": "00000000-0000-0000-0000-000000000000"}}
    _refused(graphs, GraphChange("Delete", other), 409, "conflict")
    api.patch("APIGraph", "env-1", {"metadata": {"finalizers": ["example.com/wait"]}})
    assert (graphs.write(GraphChange("Delete", graph)).obj or {})["metadata"]["deletionTimestamp"]
    api.patch("APIGraph", "env-1", {"metadata": {"finalizers": None}})
    gone = graphs.write(GraphChange("Delete", graph))
    assert (gone.outcome, gone.http_status, gone.obj) == ("ok", 404, None)
    again = graphs.write(GraphChange("Delete", api.apply(spec(component()))))
    assert (again.outcome, again.http_status, again.obj) == ("ok", 200, None)
    assert api.get("APIGraph", "env-1") is None


def _refused(graphs: KubernetesGraphs, change: GraphChange, status: int, code: str) -> str:
    """Hold that a change is not made, and how the HTTP API would answer; gives why."""
    result = graphs.write(change)
    assert result.outcome != "ok"
    error = GraphWriteError.of(change, result)
    assert (error.status, error.code) == (status, code)
    return str(error)


def test_an_apply_that_changes_nothing_changes_no_version(api: Sandbox, applier: KubernetesApplier) -> None:
    """The same apply again answers with the object as it was."""
    for kind, body in _wanted(api).items():
        uid = _made(applier, body)["metadata"]["uid"]
        name = body["metadata"]["name"]

        def unchanged(kind: str = kind, name: str = name, body: Object = body, uid: str = uid) -> bool:
            before = api.get(kind, name) or {}
            answer = applier.write(_update(body, uid)).obj or {}
            return version(answer) == version(before)

        wait(f"two equal applies of the {kind}", unchanged, 10)  # the controller may write between them


_LEAVES: dict[str, Any] = {
    "labels": {f"f:{key}": {} for key in (names.LABEL_NAME, names.LABEL_INSTANCE, names.LABEL_MANAGED_BY)}
    | {f"f:{key}": {} for key in (names.LABEL_COMPONENT, names.LABEL_ENVIRONMENT)},
}


def _metadata(uid: str, *annotations: str) -> dict[str, Any]:
    return {
        "f:annotations": {f"f:{key}": {} for key in (names.ANNOTATION_PACKAGE_NAME, *annotations)},
        "f:labels": _LEAVES["labels"] | {f"f:{names.LABEL_KIND}": {}},
        "f:ownerReferences": {f'k:{{"uid":"{uid}"}}': {}},
    }


def _probe(*numbers: str) -> dict[str, Any]:
    request: dict[str, Any] = {"f:path": {}, "f:port": {}, "f:scheme": {}}
    return {"f:httpGet": request, **{f"f:{number}": {} for number in numbers}}


def test_managed_fields_have_the_form_that_is_compared(api: Sandbox, applier: KubernetesApplier) -> None:
    """Our entry names every applied field as `f:`, items of keyed lists as `k:` with ".", atomic values as leaves."""
    wanted = _wanted(api)
    uid = (api.get("APIGraph", "env-1") or {})["metadata"]["uid"]
    made = {kind: _made(applier, body) for kind, body in wanted.items()}
    for kind, body in wanted.items():
        assert differences(body, made[kind]) == (), kind
    port: dict[str, Any] = {".": {}, "f:name": {}, "f:port": {}, "f:protocol": {}, "f:targetPort": {}}
    listening: dict[str, Any] = {".": {}, "f:containerPort": {}, "f:name": {}, "f:protocol": {}}
    container = {
        ".": {},
        **{f"f:{key}": {} for key in ("envFrom", "image", "imagePullPolicy", "name")},
        "f:ports": {f'k:{{"containerPort":{n},"protocol":"TCP"}}': listening for n in (8080, 9000)},
        "f:resources": {"f:limits": {"f:cpu": {}, "f:memory": {}}},
        "f:securityContext": {"f:allowPrivilegeEscalation": {}, "f:capabilities": {"f:drop": {}}},
        "f:readinessProbe": _probe("periodSeconds", "timeoutSeconds"),
        "f:livenessProbe": _probe("periodSeconds", "timeoutSeconds", "failureThreshold"),
    }
    pod = {
        "f:enableServiceLinks": {},
        "f:automountServiceAccountToken": {},
        "f:securityContext": {"f:seccompProfile": {"f:type": {}}},
        "f:containers": {'k:{"name":"users"}': container},
    }
    template = {"f:annotations": {f"f:{names.ANNOTATION_CONFIG_HASH}": {}}, "f:labels": _LEAVES["labels"]}
    assert owned_fields(made["ConfigMap"]) == {"f:metadata": _metadata(uid), "f:data": {"f:A": {}, "f:B": {}}}
    assert owned_fields(made["Service"]) == {
        "f:metadata": _metadata(uid),
        "f:spec": {
            "f:type": {},
            "f:selector": {},
            "f:ports": {f'k:{{"port":{n},"protocol":"TCP"}}': port for n in (8080, 9000)},
        },
    }
    assert owned_fields(made["Deployment"]) == {
        "f:metadata": _metadata(uid, names.ANNOTATION_ARTIFACT_HASH, names.ANNOTATION_PACKAGE_VERSION),
        "f:spec": {
            "f:progressDeadlineSeconds": {},
            "f:replicas": {},
            "f:selector": {},
            "f:strategy": {"f:type": {}},
            "f:template": {"f:metadata": template, "f:spec": pod},
        },
    }


def test_an_apply_removes_what_it_no_longer_names_and_leaves_what_is_not_ours(
    api: Sandbox, applier: KubernetesApplier
) -> None:
    """A poorer apply takes away our own keys, ports, limits and probes; fields of others survive, our values win."""
    rich = _wanted(api)
    made = {kind: _made(applier, body) for kind, body in rich.items()}
    api.patch("ConfigMap", "cm-users", {"data": {"MINE": "x", "B": "theirs"}})
    api.patch("Service", "svc-users", {"metadata": {"annotations": {"someone.example/note": "mine"}}})
    api.patch("Deployment", "deploy-users", {"spec": {"replicas": 3}, "metadata": {"labels": None}})
    poor = _wanted(api, spec(component(replicas=0, env={"B": "2"})))
    for kind, body in poor.items():
        before = slim(api.get(kind, body["metadata"]["name"]) or {})
        assert differences(body, before)
        result = applier.write(_update(body, made[kind]["metadata"]["uid"]))
        assert result.outcome == "ok", result
        assert result.obj is not None
        assert differences(body, result.obj) == (), kind
    assert (api.get("ConfigMap", "cm-users") or {})["data"] == {"B": "2", "MINE": "x"}
    service = api.get("Service", "svc-users") or {}
    assert service["metadata"]["annotations"]["someone.example/note"] == "mine"
    assert [port["port"] for port in service["spec"]["ports"]] == [8080]
    deployment = api.get("Deployment", "deploy-users") or {}
    assert deployment["spec"]["replicas"] == 0
    assert deployment["metadata"]["labels"][names.LABEL_COMPONENT] == "users"
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    assert "readinessProbe" not in container
    assert not container.get("resources")
    assert len(container["ports"]) == 1


def test_values_changed_by_others_show_as_differences(api: Sandbox, applier: KubernetesApplier) -> None:
    """A field set or removed by hand is ours no longer in managedFields, and differs until it is applied again."""
    body = _wanted(api)["ConfigMap"]
    made = _made(applier, body)
    api.patch("ConfigMap", "cm-users", {"data": {"A": "1", "B": "0"}, "metadata": {"ownerReferences": None}})
    found = slim(api.get("ConfigMap", "cm-users") or {})
    assert differences(body, found) == ("data.B", "metadata.ownerReferences")
    again = applier.write(_update(body, made["metadata"]["uid"])).obj
    assert again is not None
    assert differences(body, again) == ()


def test_generations_count_changes_of_the_spec(api: Sandbox, client: KubeClient, applier: KubernetesApplier) -> None:
    """APIGraphs and Deployments start at 1; labels and statuses do not count, of Deployments annotations do."""
    for kind, body in _wanted(api).items():
        patches = ({"metadata": {part: {"x": "y"}}} for part in ("labels", "annotations"))
        found = [_made(applier, body), *(api.patch(kind, body["metadata"]["name"], patch) for patch in patches)]
        generations = [obj["metadata"].get("generation") for obj in found]
        assert generations == ([1, 1, 2] if kind == "Deployment" else [None] * 3)
    assert api.patch("Deployment", "deploy-users", {"spec": {"replicas": 1}})["metadata"]["generation"] == 3
    api.patch("APIGraph", "env-1", {"metadata": {"annotations": {"x": "y"}}})
    graph = api.get("APIGraph", "env-1") or {}
    KubernetesGraphs(client).write_status(graph, _STATUS)
    assert (api.get("APIGraph", "env-1") or {})["metadata"]["generation"] == 1
    change = GraphChange("Update", graph, spec(component(), build="build-2"), {"a/b": "c"})
    metadata = (KubernetesGraphs(client).write(change).obj or {})["metadata"]
    assert metadata["generation"] == 2
    assert metadata["annotations"] == {"x": "y", "a/b": "c"}


def test_a_deployments_status_names_the_generation_it_speaks_of(api: Sandbox, applier: KubernetesApplier) -> None:
    """The Deployment controller writes observedGeneration, after the spec and at a version of its own."""
    made = _made(applier, _wanted(api)["Deployment"])
    seen = wait(
        "the controller", lambda: (api.get("Deployment", "deploy-users") or {})["status"].get("observedGeneration")
    )
    assert seen == 1
    now = api.get("Deployment", "deploy-users") or {}
    assert version(now) > version(made)
    assert not now["status"].get("replicas")


_CONDITION = {
    "type": "Ready",
    "status": "True",
    "reason": "AllRun",
    "message": "",
    "observedGeneration": 1,
    "lastTransitionTime": "2026-01-01T00:00:00Z",
}
_STATUS = {
    "observedGeneration": 1,
    "buildId": "build-1",
    "phase": "Running",
    "componentStatuses": [{"packageName": "users", "phase": "Running", "replicas": 0}],
    "conditions": [_CONDITION, {**_CONDITION, "type": "Applied"}],
}


def test_the_status_is_a_world_of_its_own(api: Sandbox, client: KubeClient) -> None:
    """A status write leaves spec and metadata alone, a spec write leaves the status alone, and removed parts go."""
    graphs = KubernetesGraphs(client)
    api.apply(spec(component(env={"A": "1"})))
    graph = api.get("APIGraph", "env-1") or {}
    assert "status" not in graph
    result = graphs.write_status(graph, {**_STATUS, "previewUrl": "http://x"})
    assert (result.outcome, (result.obj or {})["status"]) == ("ok", {**_STATUS, "previewUrl": "http://x"})
    written = api.get("APIGraph", "env-1") or {}
    assert written["spec"] == graph["spec"]
    assert version(written) > version(graph)
    poorer = {**_STATUS, "conditions": [_CONDITION]}
    rewritten = graphs.write_status(written, poorer).obj or {}
    assert rewritten["status"] == poorer
    again = graphs.write_status(rewritten, poorer).obj or {}
    assert version(again) == version(rewritten)
    body = {"apiVersion": names.GRAPH_API_VERSION, "kind": "APIGraph", "metadata": {"name": "env-1"}}
    body |= {"spec": spec(component(env={"A": "2"})), "status": {"phase": "Failed"}}
    query = {"fieldManager": "kubectl", "force": "true"}
    api.admin.request("PATCH", api.admin.path("APIGraph", "env-1"), query=query, body=body, content_type=APPLY)
    now = api.get("APIGraph", "env-1") or {}
    assert (now["status"], now["spec"]["components"][0]["runtime"]["env"]) == (poorer, {"A": "2"})


def test_a_status_is_bound_to_the_state_it_speaks_of(api: Sandbox, client: KubeClient) -> None:
    """The status of a graph that is gone, was changed, or is another one of the same name, is not written."""
    graphs = KubernetesGraphs(client)
    first = api.apply(spec(component()))
    api.delete("APIGraph", "env-1")
    missing = graphs.write_status(first, _STATUS)
    assert (missing.outcome, missing.http_status) == ("conflict", 404)
    second = api.apply(spec(component()))
    another = graphs.write_status(first, _STATUS)
    assert (another.outcome, another.http_status) == ("conflict", 409)
    api.apply(spec(component(env={"A": "1"})))
    changed = graphs.write_status(second, _STATUS)
    assert (changed.outcome, changed.http_status) == ("conflict", 409)
    assert "status" not in (api.get("APIGraph", "env-1") or {})


def test_lists_come_in_pages_of_one_moment(api: Sandbox) -> None:
    """Pages carry a token until the last; all have one version, and what was made between them is not in them."""
    for n in range(5):
        api.create("ConfigMap", {"metadata": {"name": f"page-{n}"}})
    path, found, versions, token = api.admin.path("ConfigMap"), [], set(), ""
    while True:
        query = {"limit": "2"} | ({"continue": token} if token else {})
        page = api.admin.request("GET", path, query=query)
        found += [item["metadata"]["name"] for item in page["items"]]
        assert all("kind" not in item for item in page["items"])
        versions.add(page["metadata"]["resourceVersion"])
        if len(found) <= 2:
            api.create("ConfigMap", {"metadata": {"name": "page-late"}})
        token = page["metadata"].get("continue") or ""
        if not token:
            break
        assert len(page["items"]) == 2
    assert [name for name in found if name != "kube-root-ca.crt"] == [f"page-{n}" for n in range(5)]
    assert len(versions) == 1


def _watch(
    client: KubeClient,
    at: str,
    timeout_s: int,
    kind: str = "ConfigMap",
    opened: Callable[[], None] = lambda: None,
) -> list[dict[str, Any]]:
    query = {"watch": "true", "resourceVersion": at, "allowWatchBookmarks": "true", "timeoutSeconds": str(timeout_s)}
    return list(client.stream(client.path(kind), query, silence_s=timeout_s + 5, opened=opened))


def test_a_watch_tells_everything_after_its_version_and_ends_in_time(api: Sandbox, client: KubeClient) -> None:
    """Events come in the order of their versions, a delete at a version of its own, and bookmarks go beyond them."""
    api.create("ConfigMap", {"metadata": {"name": "before"}})
    at = api.admin.request("GET", api.admin.path("ConfigMap"))["metadata"]["resourceVersion"]
    api.create("ConfigMap", {"metadata": {"name": "a"}})
    api.patch("ConfigMap", "a", {"data": {"x": "1"}})
    api.delete("ConfigMap", "a")
    # Not even the real one sends a bookmark that is not newer than what its watch began with.
    later = threading.Timer(0.5, api.create, ("ConfigMap", {"metadata": {"name": "later"}}))
    started = time.monotonic()
    events = _watch(client, at, 5, opened=later.start)
    assert time.monotonic() - started < 10
    later.join()
    changes = [e for e in events if e["type"] != "BOOKMARK" and e["object"]["metadata"]["name"] == "a"]
    assert [event["type"] for event in changes] == ["ADDED", "MODIFIED", "DELETED"]
    versions = [version(event["object"]) for event in changes]
    assert versions == sorted(set(versions))
    assert versions[0] > int(at)
    assert changes[-1]["object"]["data"] == {"x": "1"}
    bookmarks = [event["object"] for event in events if event["type"] == "BOOKMARK"]
    assert bookmarks
    assert version(bookmarks[-1]) >= versions[-1]
    after = [e["object"]["metadata"] for e in _watch(client, bookmarks[-1]["metadata"]["resourceVersion"], 1)]
    # The controllers' own may come late.
    assert {metadata.get("name") for metadata in after} <= {None, "", "kube-root-ca.crt"}


def test_a_version_too_old_is_410_inside_the_stream(api: Sandbox, client: KubeClient) -> None:
    """A watch from before what is remembered begins, and its one event is an ERROR with a Status of 410."""
    events = _watch(client, "1", 3, "APIGraph")  # of this kind nothing is remembered from before its CRD
    assert [event["type"] for event in events] == ["ERROR"]
    status = events[0]["object"]
    assert (status["kind"], status["code"], status["reason"]) == ("Status", 410, "Expired")
    assert "too old resource version" in status["message"]


def test_a_list_watch_follows(api: Sandbox, client: KubeClient) -> None:
    """A store is filled by the list, and kept by watches that end and resume."""
    api.create("ConfigMap", {"metadata": {"name": "a"}})
    store, stopping = Store("ConfigMap", "v1"), threading.Event()
    ListWatch(client, store, stopping, Pace(watch_s=1.5, silence_s=10)).start()
    try:
        wait("the list", store.synced.is_set, 10)
        assert store.get("a")
        uid = api.create("ConfigMap", {"metadata": {"name": "b"}})["metadata"]["uid"]
        wait("an addition", lambda: (store.get("b") or {"metadata": {}})["metadata"].get("uid") == uid, 10)
        time.sleep(1.6)  # a watch ends, and another one begins
        api.patch("ConfigMap", "b", {"data": {"x": "1"}})
        wait("a change", lambda: (store.get("b") or {}).get("data"), 10)
        api.delete("ConfigMap", "a")
        wait("a deletion", lambda: store.get("a") is None, 10)
        assert (store.get("b") or {})["kind"] == "ConfigMap"
    finally:
        stopping.set()


def test_refusals_have_status_reason_and_message(api: Sandbox, client: KubeClient) -> None:
    """404, 403, 409 and a path that nobody serves, as the operator reads them."""
    missing = _error(client, "GET", client.path("ConfigMap", "nobody"))
    assert (missing.status, missing.reason, missing.retry_after_s) == (404, "NotFound", None)
    assert missing.message == 'configmaps "nobody" not found'
    forbidden = _error(client, "GET", client.path("Event", "env-1"))
    assert (forbidden.status, forbidden.reason) == (403, "Forbidden")
    assert 'events "env-1" is forbidden' in forbidden.message
    api.create("ConfigMap", {"metadata": {"name": "a"}})
    exists = _error(client, "POST", client.path("ConfigMap"), body={"metadata": {"name": "a"}})
    assert (exists.status, exists.reason) == (409, "AlreadyExists")
    assert _error(api.admin, "GET", "/apis/nobody.example/v1/things").status == 404


def _graph(value: Any) -> Object:
    metadata = {"name": names.graph_name(value["environmentId"]), "labels": {names.LABEL_SOURCE: "api"}}
    return {"apiVersion": names.GRAPH_API_VERSION, "kind": "APIGraph", "metadata": metadata, "spec": value}


def test_graphs_are_created_strictly(api: Sandbox, client: KubeClient) -> None:
    """An unknown field, a wrong type and a missing one are refused with its name; a good graph gets its defaults."""
    graphs = KubernetesGraphs(client)
    bad = [
        ({**spec(component()), "colour": "red"}, "spec.colour"),
        (spec({**component(), "size": 1}), "size"),
        (spec({**component(), "packageVersion": 1}), "packageVersion"),
        (spec({k: v for k, v in component().items() if k != "artifactHash"}), "artifactHash"),
        (spec(component(replicas=-1)), "replicas"),
    ]
    for value, named in bad:
        assert named in _refused(graphs, GraphChange("Create", _graph(value)), 422, "refused")
    made = graphs.write(GraphChange("Create", _graph(spec(component())))).obj or {}
    assert made["spec"]["components"][0]["runtime"] == {"replicas": 1, "port": 8080}
    _refused(graphs, GraphChange("Create", _graph(spec(component()))), 409, "conflict")


def test_an_update_of_a_graph_is_bound_to_its_uid(api: Sandbox, client: KubeClient) -> None:
    """A JSON patch whose test fails changes nothing."""
    graphs = KubernetesGraphs(client)
    made = graphs.write(GraphChange("Create", _graph(spec(component())))).obj or {}
    other = {"metadata": {**made["metadata"], "uid": "00000000-0000-0000-0000-000000000000"}}
    assert graphs.write(GraphChange("Update", other, spec(component("other")))).outcome == "failed"
    assert version(api.get("APIGraph", "env-1") or {}) == version(made)
    changed = graphs.write(GraphChange("Update", made, spec(component("other")))).obj or {}
    assert [c["packageName"] for c in changed["spec"]["components"]] == ["other"]
    nobody = GraphChange("Update", {"metadata": {"name": "nobody", "uid": "u"}}, spec())
    _refused(graphs, nobody, 409, "conflict")


def test_the_outcome_of_a_write_of_a_graph_can_be_read_back(api: Sandbox, client: KubeClient) -> None:
    """By what stands there, whoever wrote it: what the API server added is no difference."""
    graphs = KubernetesGraphs(client)
    create = GraphChange("Create", _graph(spec(component())))
    assert graphs.read(create).outcome == "failed"
    made = graphs.write(create).obj or {}
    assert graphs.read(create).outcome == "ok"
    update = GraphChange("Update", made, spec(component(), build="build-2"), {"a/b": "c"})
    assert graphs.read(update).outcome == "failed"
    changed = graphs.write(update).obj or {}
    assert (graphs.read(update).outcome, graphs.read(create).outcome) == ("ok", "failed")
    delete = GraphChange("Delete", changed)
    assert graphs.read(delete).outcome == "failed"
    graphs.write(delete)
    assert (graphs.read(delete).outcome, graphs.read(update).outcome) == ("ok", "failed")


def test_events_are_taken(api: Sandbox, client: KubeClient) -> None:
    """What the operator tells about a graph is an Event in its namespace."""
    graph = api.apply(spec(component()))
    stopping = threading.Event()
    recorder = EventRecorder(client, stopping)
    recorder.start()
    try:
        recorder.tell(graph, "Normal", "Applied", "created 3", 1_700_000_000.5)
        found = wait("the event", lambda: [e for e in api.list("Event") if e.get("reason") == "Applied"])
        assert (found[0]["involvedObject"]["name"], found[0]["message"]) == ("env-1", "created 3")
    finally:
        stopping.set()


def test_the_operators_role_suffices_and_is_all_it_has(api: Sandbox, client: KubeClient) -> None:
    """The operator lists and watches what it caches, and reads no Secrets and no Events."""

    def use(kind: str) -> None:
        page = client.request("GET", client.path(kind), query={"limit": "1"})
        _watch(client, page["metadata"]["resourceVersion"], 1, kind)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(use, (names.GRAPH_KIND, *CHILDREN)))
    assert _error(client, "GET", client.path("Event")).status == 403
    assert _error(client, "DELETE", client.path("Event", "x")).status == 403
    assert set(RESOURCES) == {names.GRAPH_KIND, *CHILDREN, "Event"}
