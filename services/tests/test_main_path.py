"""The path of the platform: publish, create, build, graph, status, update, rollback, delete."""

from typing import Any

from .conftest import Platform, eventually, unique


def _ready(platform: Platform, environment_id: str) -> dict[str, Any]:
    found: dict[str, Any] = eventually(
        lambda: platform.environment(environment_id), lambda e: e["status"] in ("ready", "failed")
    )
    return found


def test_environment_becomes_a_graph_and_runs(platform: Platform, root: str) -> None:
    """A published package becomes an environment whose graph the operator can run, and whose status says so."""
    created = platform.create(root, ingressHost="shop.example")
    assert created["status"] == "building"
    assert platform.builder.http.get(f"/v1/builds/{created['currentBuildId']}").status_code == 200
    assert _ready(platform, created["id"])["status"] == "ready"
    graph = platform.graph(created["id"])
    assert graph["buildId"] == created["currentBuildId"]
    assert graph["rootPackage"] == root
    leaf = next(c for c in graph["components"] if c["packageName"] != root)
    assert leaf["runtime"] == {
        "replicas": 1,
        "port": 8080,
        "env": {"GREETING": "hello"},
        "resources": {"requests": {}, "limits": {}},
    }
    path = f"/{leaf['packageName']}"
    route = {"path": path, "targetComponent": leaf["packageName"], "targetPort": 8080}
    assert graph["ingress"] == {"host": "shop.example", "routes": [route]}
    status = platform.status(created["id"])
    assert status["phase"] == "Running"
    assert "stuckAt" not in status
    assert status["build"]["status"] == "succeeded"
    assert status["operator"]["buildId"] == created["currentBuildId"]
    assert status["routes"] == [route]


def test_new_version_is_rolled_out_and_rolled_back_by_a_yank(platform: Platform, root: str) -> None:
    """A rebuild takes the newest version; after a yank of it, a rebuild is back at the one before."""
    environment_id = platform.create(root)["id"]
    _ready(platform, environment_id)
    first = platform.graph(environment_id)["components"]
    platform.publish(root, "2.0.0", schema="other")
    asked = platform.envmanager.http.post(f"/v1/environments/{environment_id}/builds", json={})
    assert asked.status_code == 202
    _ready(platform, environment_id)
    second = platform.graph(environment_id)
    assert [c["packageVersion"] for c in second["components"] if c["packageName"] == root] == ["2.0.0"]
    assert second["buildId"] == asked.json()["currentBuildId"]
    assert platform.registry.http.delete(f"/v1/packages/{root}/versions/2.0.0").status_code == 200
    platform.envmanager.http.post(f"/v1/environments/{environment_id}/builds")
    _ready(platform, environment_id)
    assert platform.graph(environment_id)["components"] == first


def test_root_version_of_a_rebuild_counts_once(platform: Platform, root: str) -> None:
    """A version asked for in a rebuild is taken; the next rebuild follows the environment's own range again."""
    platform.publish(root, "1.1.0")
    environment_id = platform.create(root)["id"]
    _ready(platform, environment_id)

    def versions_after(body: dict[str, Any]) -> list[str]:
        platform.envmanager.http.post(f"/v1/environments/{environment_id}/builds", json=body)
        _ready(platform, environment_id)
        return [c["packageVersion"] for c in platform.graph(environment_id)["components"] if c["packageName"] == root]

    assert versions_after({"rootVersion": "1.0.0"}) == ["1.0.0"]
    assert versions_after({}) == ["1.1.0"]


def test_overrides_win_over_ranges_and_promotion_keeps_them(platform: Platform, root: str) -> None:
    """An override runs whatever the ranges say; promoted versions stay although newer ones are published."""
    environment_id = platform.create(root)["id"]
    _ready(platform, environment_id)
    leaf = next(c["packageName"] for c in platform.graph(environment_id)["components"] if c["packageName"] != root)
    platform.publish(leaf, "9.0.0-pr.1", schema="preview")
    override = {"overrides": [{"packageName": leaf, "version": "9.0.0-pr.1"}]}
    answer = platform.envmanager.http.post(f"/v1/environments/{environment_id}/overrides", json=override)
    assert answer.status_code == 202, answer.text
    _ready(platform, environment_id)
    built = {c["packageName"]: c["packageVersion"] for c in platform.graph(environment_id)["components"]}
    assert built == {leaf: "9.0.0-pr.1", root: "1.0.0"}
    promoted = platform.envmanager.http.post(f"/v1/environments/{environment_id}/promote").json()
    assert promoted["baseRootVersion"] == "1.0.0"
    platform.publish(root, "1.5.0", needs={leaf: "^1"})
    platform.envmanager.http.post(f"/v1/environments/{environment_id}/builds", json={})
    _ready(platform, environment_id)
    assert {c["packageName"]: c["packageVersion"] for c in platform.graph(environment_id)["components"]} == built


def test_unused_override_is_refused(platform: Platform, root: str) -> None:
    """An override of a package the environment does not need is refused by name, and changes nothing."""
    environment_id = platform.create(root)["id"]
    other = unique("other")
    platform.publish(other)
    override = {"overrides": [{"packageName": other, "version": "1.0.0"}]}
    answer = platform.envmanager.http.post(f"/v1/environments/{environment_id}/overrides", json=override)
    assert answer.status_code == 422
    assert other in answer.json()["error"]["message"]
    assert platform.environment(environment_id)["overrides"] == []


def test_taken_name_and_taken_component_name_their_owner(platform: Platform, root: str) -> None:
    """A second environment with the same name or the same component is refused and told whose it is."""
    first = platform.create(root)
    for body in ({"name": first["name"], "baseRootPackage": root}, {"name": unique("env"), "baseRootPackage": root}):
        answer = platform.envmanager.http.post("/v1/environments", json=body)
        assert answer.status_code == 409
        assert first["id"] in answer.json()["error"]["message"]


def test_environment_on_an_unknown_package_is_refused(platform: Platform) -> None:
    """Nothing is created when the root package cannot be resolved; the package is named."""
    answer = platform.envmanager.http.post(
        "/v1/environments", json={"name": unique("env"), "baseRootPackage": "no-such"}
    )
    assert answer.status_code == 422
    assert "no-such" in answer.json()["error"]["message"]


def test_failed_build_fails_the_environment_and_names_the_package(platform: Platform) -> None:
    """A package without a schema fails the validate step; environment and status carry the message."""
    name = unique("bare")
    platform.publish(name, schema="")
    environment_id = platform.create(name)["id"]
    environment = _ready(platform, environment_id)
    assert environment["status"] == "failed"
    assert environment["message"] == f"validate: package {name}@1.0.0 has no schema"
    status = platform.status(environment_id)
    assert status["phase"] == "Failed"
    assert name in status["stuckAt"]
    assert [s["status"] for s in status["build"]["steps"]] == ["succeeded", "succeeded", "failed", "pending"]
    assert platform.graph(environment_id) is None


def test_failed_build_leaves_the_former_graph_in_force(platform: Platform, root: str) -> None:
    """A build that fails does not take away what runs."""
    environment_id = platform.create(root)["id"]
    _ready(platform, environment_id)
    before = platform.graph(environment_id)
    platform.publish(root, "2.0.0", schema=" ")
    platform.envmanager.http.post(f"/v1/environments/{environment_id}/builds", json={})
    assert _ready(platform, environment_id)["status"] == "failed"
    assert platform.graph(environment_id) == before


def test_running_is_never_said_of_a_build_the_operator_has_not_applied(platform: Platform, root: str) -> None:
    """While the operator still reports the build before, the phase is Reconciling and says which build it is at."""
    environment_id = platform.create(root)["id"]
    _ready(platform, environment_id)
    former = platform.status(environment_id)["operator"]
    platform.operator.forced[environment_id] = former
    current = platform.envmanager.http.post(f"/v1/environments/{environment_id}/builds", json={}).json()
    _ready(platform, environment_id)
    status = platform.status(environment_id)
    assert status["phase"] == "Reconciling"
    assert former["buildId"] in status["stuckAt"]
    assert current["currentBuildId"] in status["stuckAt"]


def test_deletion_ends_when_the_operator_confirms(platform: Platform, root: str) -> None:
    """The graph goes at once, the environment when the operator no longer knows it; then its name is free again."""
    created = platform.create(root)
    environment_id = created["id"]
    _ready(platform, environment_id)
    platform.operator.forced[environment_id] = platform.status(environment_id)["operator"]
    assert platform.envmanager.http.delete(f"/v1/environments/{environment_id}").status_code == 202
    eventually(lambda: platform.graph(environment_id), lambda graph: graph is None)
    status = platform.status(environment_id)
    assert status["phase"] == "Deleting"
    assert "operator still has it" in status["stuckAt"]
    refused = platform.envmanager.http.post(f"/v1/environments/{environment_id}/builds", json={})
    assert refused.status_code == 409
    assert platform.envmanager.http.delete(f"/v1/environments/{environment_id}").status_code == 202
    del platform.operator.forced[environment_id]
    gone = f"/v1/environments/{environment_id}"
    eventually(lambda: platform.envmanager.http.get(gone).status_code, lambda status: status == 404)
    again = platform.create(root, name=created["name"])
    assert again["id"] != environment_id


def test_status_says_that_the_operator_is_away(platform: Platform, root: str) -> None:
    """With the operator down, the phase is not Running and the reason is named."""
    environment_id = platform.create(root)["id"]
    _ready(platform, environment_id)
    platform.operator.down = True
    status = platform.status(environment_id)
    assert status["phase"] == "Reconciling"
    assert "operator" in status["stuckAt"]
    ready = platform.envmanager.http.get("/readyz")
    assert ready.status_code == 503
    assert ready.json()["dependencies"]["registry"] == "ok"
    assert "operator" in ready.json()["dependencies"]["operator"]
