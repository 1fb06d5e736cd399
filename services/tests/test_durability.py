"""What was acknowledged survives ``kill -9``; what was begun is finished."""

import socket
from urllib.parse import urlsplit

import pytest

from .conftest import Platform, eventually, unique

pytestmark = pytest.mark.kill


def test_publication_survives_kill_9(platform: Platform) -> None:
    """A package that was acknowledged is there after the process was killed at once."""
    name = unique("durable")
    published = [platform.publish(name, f"1.0.{n}") for n in range(5)]
    platform.registry.kill()
    platform.registry.start()
    found = platform.registry.http.get("/v1/packages", params={"name_prefix": name}).json()["packages"]
    assert found == published


def test_interrupted_build_is_done_after_a_restart(platform: Platform, root: str) -> None:
    """A build that was running when builder was killed succeeds after its restart, under the same id."""
    platform.registry.kill()
    try:
        body = {"environmentId": unique("e"), "rootPackageName": root}
        build_id = platform.builder.http.post("/v1/builds", json=body).json()["id"]
        path = f"/v1/builds/{build_id}"
        eventually(lambda: platform.builder.http.get(path).json()["status"], lambda status: status == "running")
        platform.builder.kill()
    finally:
        platform.registry.start()
        platform.builder.restart_if_stopped()
    eventually(lambda: platform.builder.http.get(path).json()["status"], lambda status: status == "succeeded")
    assert "starts again" in platform.builder.http.get(f"{path}/logs").text


def test_creation_survives_a_builder_that_is_away_and_a_kill(platform: Platform, root: str) -> None:
    """An environment created while builder is away is built once builder is back, also after envmanager was killed."""
    platform.builder.kill()
    try:
        created = platform.create(root)
        assert created["status"] == "creating"
        assert "currentBuildId" not in created
        status = platform.status(created["id"])
        assert status["phase"] == "Building"
        assert "builder" in status["stuckAt"]
        platform.envmanager.kill()
        platform.envmanager.start()
    finally:
        platform.builder.restart_if_stopped()
    ready = eventually(lambda: platform.environment(created["id"]), lambda e: e["status"] == "ready")
    assert platform.graph(created["id"])["buildId"] == ready["currentBuildId"]


def test_deletion_goes_on_after_kill_9_at_each_hop(platform: Platform, root: str) -> None:
    """Killed before builder, and again before the operator, has confirmed, the deletion still ends."""
    environment_id = platform.create(root)["id"]
    eventually(lambda: platform.environment(environment_id), lambda e: e["status"] == "ready")
    platform.operator.forced[environment_id] = {"environmentId": environment_id, "phase": "Deleting"}
    platform.builder.kill()
    try:
        assert platform.envmanager.http.delete(f"/v1/environments/{environment_id}").status_code == 202
        platform.envmanager.kill()
        platform.envmanager.start()
        stuck = eventually(lambda: platform.status(environment_id), lambda s: "builder at" in s.get("stuckAt", ""))
        assert stuck["phase"] == "Deleting"
    finally:
        platform.builder.restart_if_stopped()
    eventually(lambda: platform.graph(environment_id), lambda graph: graph is None)
    platform.envmanager.kill()
    platform.envmanager.start()
    assert platform.environment(environment_id)["status"] == "deleting"
    platform.operator.forced[environment_id] = None
    gone = f"/v1/environments/{environment_id}"
    eventually(lambda: platform.envmanager.http.get(gone).status_code, lambda status: status == 404)


def test_build_is_asked_for_anew_when_builder_lost_its_state(platform: Platform, root: str) -> None:
    """A builder that comes back empty is given every environment's build again."""
    environment_id = platform.create(root)["id"]
    lost = eventually(lambda: platform.environment(environment_id), lambda e: e["status"] == "ready")["currentBuildId"]
    store = platform.builder.http.get("/v1/graphs").json()["store"]
    assert platform.builder.terminate() == 0
    for file in platform.builder.directory.iterdir():
        file.unlink()
    platform.builder.start()
    graph = eventually(lambda: platform.graph(environment_id))
    assert platform.builder.http.get("/v1/graphs").json()["store"] != store
    assert graph["buildId"] != lost
    eventually(
        lambda: platform.environment(environment_id),
        lambda e: e["status"] == "ready" and e["currentBuildId"] == graph["buildId"],
    )


def test_what_was_promoted_is_built_again_when_builder_lost_its_state(platform: Platform, root: str) -> None:
    """A builder that comes back empty is asked for the promoted version, not for a newer one."""
    environment_id = platform.create(root)["id"]
    eventually(lambda: platform.environment(environment_id), lambda e: e["status"] == "ready")
    answer = platform.envmanager.http.post(f"/v1/environments/{environment_id}/promote")
    assert answer.status_code == 200, answer.text
    platform.publish(root, "1.5.0")
    assert platform.builder.terminate() == 0
    for file in platform.builder.directory.iterdir():
        file.unlink()
    platform.builder.start()
    graph = eventually(lambda: platform.graph(environment_id))
    assert [c["packageVersion"] for c in graph["components"] if c["packageName"] == root] == ["1.0.0"]


def test_build_that_overtook_the_current_one_is_put_right(platform: Platform, root: str) -> None:
    """When builder's newest build is not the one envmanager knows, the environment is built anew and both agree."""
    environment_id = platform.create(root)["id"]
    eventually(lambda: platform.environment(environment_id), lambda e: e["status"] == "ready")
    body = {"environmentId": environment_id, "rootPackageName": root}
    stray = platform.builder.http.post("/v1/builds", json=body).json()["id"]
    eventually(lambda: platform.graph(environment_id)["buildId"], lambda build_id: build_id == stray)
    eventually(
        lambda: (platform.environment(environment_id), platform.graph(environment_id)["buildId"]),
        lambda seen: seen[0]["status"] == "ready" and seen[0]["currentBuildId"] == seen[1] != stray,
    )


def test_sigterm_answers_held_requests_and_exits_0_soon(platform: Platform) -> None:
    """A stopping builder lets go of held requests at once and ends with 0 within the grace of ten seconds."""
    where = urlsplit(platform.builder.url)
    held = socket.create_connection((where.hostname, where.port), timeout=30)
    head = f"GET /v1/graphs HTTP/1.1\r\nhost: {where.netloc}\r\nprefer: wait=60\r\nif-none-match: *\r\n\r\n"
    held.sendall(head.encode())
    assert platform.builder.http.get("/v1/graphs").status_code == 200  # asked later, so the other one is held by now
    try:
        assert platform.builder.terminate() == 0
        assert held.recv(4096).startswith(b"HTTP/1.1 304")
    finally:
        held.close()
        platform.builder.restart_if_stopped()
