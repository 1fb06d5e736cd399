"""The raw API connection against a real API server."""

import json
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from k8s_e2e.cluster.provider import Cluster
from k8s_e2e.platform.kube import ApiError, Kube

pytestmark = pytest.mark.cluster

NAMESPACE = "test-kube"


@pytest.fixture(scope="module")
def kube(control_plane: Cluster) -> Iterator[Kube]:
    """A connection, with a namespace to work in."""
    with Kube.connect(control_plane.kubeconfig, control_plane.context) as connected:
        connected.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
        yield connected


def config_map(name: str, **data: str) -> dict:
    """A ConfigMap without a namespace."""
    labels = {"test": "kube"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": labels}, "data": data}


def test_no_key_stays_on_disk(kube, control_plane, tmp_path, monkeypatch):
    """Keys that stand in a kubeconfig are files only while they are loaded, also when it is read twice."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with Kube.connect(control_plane.kubeconfig, control_plane.context) as again:
        assert again.request("GET", "/version")["major"] == "1"
        assert list(Path(tempfile.tempdir).iterdir()) == []


def test_discovery_knows_every_kind(kube):
    """Core and grouped kinds with scope and verbs; sub-resources are no kinds."""
    found = {(resource.api_version, resource.kind): resource for resource in kube.discover()}
    assert found["v1", "Namespace"].namespaced is False
    assert found["apps/v1", "Deployment"].path("n", "x") == "/apis/apps/v1/namespaces/n/deployments/x"
    assert {"list", "watch"} <= set(found["v1", "Pod"].verbs)
    assert not [resource for resource in found.values() if "/" in resource.plural]


def test_objects_live_their_life(kube):
    """Applied, read, listed by label, changed, and deleted by uid only if it is the same object."""
    made = kube.apply(config_map("life", a="1", b="2"), namespace=NAMESPACE)
    assert kube.get("v1", "ConfigMap", "life", NAMESPACE)["data"] == {"a": "1", "b": "2"}
    changed = kube.apply(config_map("life", a="3"), namespace=NAMESPACE)
    assert changed["data"] == {"a": "3"}
    assert {entry["manager"] for entry in changed["metadata"]["managedFields"]} == {"k8s-e2e"}
    (item,) = kube.list("v1", "ConfigMap", NAMESPACE, selector="test=kube")["items"]
    assert (item["apiVersion"], item["kind"]) == ("v1", "ConfigMap")
    assert kube.delete("v1", "ConfigMap", "life", NAMESPACE, uid="another") is False
    assert kube.delete("v1", "ConfigMap", "life", NAMESPACE, uid=made["metadata"]["uid"]) is True
    assert kube.delete("v1", "ConfigMap", "life", NAMESPACE) is False
    assert kube.get("v1", "ConfigMap", "life", NAMESPACE) is None


def test_a_dry_run_changes_nothing(kube):
    """The server answers what it would store, and stores nothing."""
    assert kube.apply(config_map("dry", a="1"), namespace=NAMESPACE, dry_run=True)["data"] == {"a": "1"}
    assert kube.get("v1", "ConfigMap", "dry", NAMESPACE) is None


def test_a_refusal_names_the_field(kube):
    """The server's own message comes through, with its status and reason."""
    with pytest.raises(ApiError, match="lowercase RFC 1123") as raised:
        kube.apply(config_map("Not_A_Name"), namespace=NAMESPACE)
    assert (raised.value.status, raised.value.reason) == (422, "Invalid")


def test_an_unknown_kind_is_not_found(kube):
    """Reading gives nothing; listing, which cannot give nothing, is refused."""
    assert kube.get("v1", "Unicorn", "x", NAMESPACE) is None
    with pytest.raises(ApiError, match="serves no Unicorn in v1") as raised:
        kube.list("v1", "Unicorn")
    assert raised.value.status == 404


def test_all_pages_are_read_and_many_threads_may_write(kube):
    """Sixteen threads write fifty objects; pages of seven give all of them."""
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda n: kube.apply(config_map(f"many-{n:02}"), namespace=NAMESPACE), range(50)))
    whole = kube.list("v1", "ConfigMap", NAMESPACE, selector="test=kube", limit=7)
    assert [item["metadata"]["name"] for item in whole["items"]] == [f"many-{n:02}" for n in range(50)]
    assert set(whole["metadata"]) == {"resourceVersion"}


def test_the_servers_own_table_is_read(kube):
    """Columns and cells as kubectl prints them."""
    kube.apply(config_map("tabled", a="1", b="2"), namespace=NAMESPACE)
    table = kube.table(kube.resource("v1", "ConfigMap"), NAMESPACE)
    assert [column["name"] for column in table["columnDefinitions"]] == ["Name", "Data", "Age"]
    assert ["tabled", 2] in [row["cells"][:2] for row in table["rows"]]


def test_a_watch_sees_what_happens_after_a_list(kube):
    """Events begin where the list ended, and another thread may end the watch."""
    version = kube.list("v1", "ConfigMap", NAMESPACE)["metadata"]["resourceVersion"]
    resource = kube.resource("v1", "ConfigMap")
    with kube.watch(resource, NAMESPACE, resource_version=version, name="watched", inactivity_s=20) as watch:
        kube.apply(config_map("unwatched"), namespace=NAMESPACE)
        kube.apply(config_map("watched", a="1"), namespace=NAMESPACE)
        kube.apply(config_map("watched", a="2"), namespace=NAMESPACE)
        kube.delete("v1", "ConfigMap", "watched", NAMESPACE)
        assert [next(watch)["type"] for _ in range(3)] == ["ADDED", "MODIFIED", "DELETED"]
        began = time.monotonic()
        threading.Timer(0.2, watch.close).start()
        assert list(watch) == []
        assert time.monotonic() - began < 5
    assert watch.ended == "closed"


def test_a_watch_that_is_refused_is_an_error(kube):
    """It is refused when it is opened, in the server's words; nothing hangs."""
    with pytest.raises(ApiError, match='resourceVersion: Invalid value: "not-a-version"'):
        kube.watch(kube.resource("v1", "ConfigMap"), NAMESPACE, resource_version="not-a-version", inactivity_s=5)


def test_a_new_kind_is_found_without_asking_again(kube):
    """A CRD made after discovery is served to the same connection."""
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    versions = [{"name": "v1", "served": True, "storage": True, "schema": schema}]
    names = {"kind": "Widget", "plural": "widgets"}
    crd = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.kube.test"},
        "spec": {"group": "kube.test", "scope": "Namespaced", "names": names, "versions": versions},
    }
    assert kube.get("kube.test/v1", "Widget", "w", NAMESPACE) is None
    kube.apply(crd)
    deadline = time.monotonic() + 20
    while True:
        try:
            resource = kube.resource("kube.test/v1", "Widget")
            break
        except ApiError:
            assert time.monotonic() < deadline
            time.sleep(0.1)
    assert (resource.plural, resource.namespaced) == ("widgets", True)
    kube.apply(
        {"apiVersion": "kube.test/v1", "kind": "Widget", "metadata": {"name": "w"}, "size": 3}, namespace=NAMESPACE
    )
    assert kube.get("kube.test/v1", "Widget", "w", NAMESPACE)["size"] == 3
    assert kube.delete("apiextensions.k8s.io/v1", "CustomResourceDefinition", "widgets.kube.test")


def test_logs_of_a_pod_that_is_not_there_are_an_error(kube):
    """No empty log is made up."""
    with pytest.raises(ApiError, match='pods "nobody" not found'):
        kube.logs(NAMESPACE, "nobody", "c")


def test_raw_gives_the_bytes(kube):
    """What is not JSON is read as it is."""
    assert kube.raw("GET", "/readyz") == b"ok"
    assert json.loads(kube.raw("GET", "/version"))["major"] == "1"
