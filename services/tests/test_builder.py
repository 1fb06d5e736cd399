"""builder's HTTP API: graphs that can be waited on, logs as a stream, builds asked for once."""

import threading
import time
from typing import Any

import httpx

from .conftest import Platform, eventually, unique


def build(platform: Platform, root: str, environment_id: str, **headers: str) -> Any:
    """Ask for a build, without an environment of envmanager."""
    body = {"environmentId": environment_id, "rootPackageName": root}
    answer = platform.builder.http.post("/v1/builds", json=body, headers=headers)
    assert answer.status_code == 202, answer.text
    return answer.json()


def ended(platform: Platform, build_id: str) -> Any:
    """The build, when it has ended."""
    look = lambda: platform.builder.http.get(f"/v1/builds/{build_id}").json()  # noqa: E731
    return eventually(look, lambda b: b["status"] in ("succeeded", "failed"))


def events(text: str) -> list[dict[str, str]]:
    """Server-sent events, parsed."""
    blocks = [block for block in text.split("\n\n") if block and not block.startswith(":")]
    return [dict(line.split(": ", 1) for line in block.splitlines()) for block in blocks]


def test_unchanged_graphs_are_not_sent_again(platform: Platform, root: str) -> None:
    """The entity tag of an answer gets 304 until something changes."""
    first = platform.builder.http.get("/v1/graphs")
    tag = first.headers["etag"]
    same = platform.builder.http.get("/v1/graphs", headers={"if-none-match": f'"other", {tag}'})
    assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", tag)
    ended(platform, build(platform, root, unique("e"))["id"])
    assert platform.builder.http.get("/v1/graphs", headers={"if-none-match": tag}).status_code == 200


def test_graphs_name_their_store_and_their_traces(platform: Platform, root: str) -> None:
    """An answer names the data store it comes from, and the trace of each build for the operator to go on with."""
    environment_id = unique("e")
    ended(platform, build(platform, root, environment_id)["id"])
    first, second = (platform.builder.http.get("/v1/graphs").json() for _ in range(2))
    assert first["store"] == second["store"] != ""
    assert first["traceparents"][environment_id].startswith("00-")


def test_unchanged_graphs_are_held_as_long_as_preferred(platform: Platform) -> None:
    """``Prefer: wait=1`` holds an unchanged answer for a second, not less."""
    tag = platform.builder.http.get("/v1/graphs").headers["etag"]
    started = time.monotonic()
    answer = platform.builder.http.get("/v1/graphs", headers={"if-none-match": tag, "prefer": "wait=1"})
    assert answer.status_code == 304
    assert answer.headers["preference-applied"] == "wait=1"
    assert time.monotonic() - started >= 0.95


def test_change_answers_a_held_request_at_once(platform: Platform, root: str) -> None:
    """A graph that appears is answered long before the preferred wait is over."""
    tag = platform.builder.http.get("/v1/graphs").headers["etag"]
    held: list[httpx.Response] = []
    headers = {"if-none-match": tag, "prefer": "wait=30"}
    waiting = threading.Thread(
        target=lambda: held.append(httpx.get(f"{platform.builder.url}/v1/graphs", headers=headers, timeout=40))
    )
    waiting.start()
    time.sleep(0.2)
    assert not held
    environment_id = unique("e")
    ended(platform, build(platform, root, environment_id)["id"])
    waiting.join(5)
    assert held[0].status_code == 200
    assert environment_id in [graph["environmentId"] for graph in held[0].json()["graphs"]]


def test_graphs_are_sorted_and_end_with_their_environment(platform: Platform, root: str) -> None:
    """Graphs come sorted by environment; a deleted one goes, and deleting again changes nothing."""
    ids = [unique("z"), unique("a"), unique("m")]
    for environment_id in ids:
        ended(platform, build(platform, root, environment_id)["id"])
    listed = [graph["environmentId"] for graph in platform.builder.http.get("/v1/graphs").json()["graphs"]]
    assert listed == sorted(listed)
    assert set(ids) <= set(listed)
    for _ in range(2):
        assert platform.builder.http.delete(f"/v1/graphs/{ids[0]}").status_code == 204
    assert platform.graph(ids[0]) is None
    assert platform.graph(ids[1]) is not None


def test_log_is_replayed_and_ends_with_done(platform: Platform, root: str) -> None:
    """A finished build's log has an id on each event and ends with done; Last-Event-ID skips what came before."""
    finished = ended(platform, build(platform, root, unique("e"))["id"])
    path = f"/v1/builds/{finished['id']}/logs"
    answer = platform.builder.http.get(path)
    assert answer.headers["content-type"].startswith("text/event-stream")
    everything = events(answer.text)
    assert [event["id"] for event in everything] == [str(n + 1) for n in range(len(everything))]
    assert [event["event"] for event in everything] == ["log"] * (len(everything) - 1) + ["done"]
    rest = platform.builder.http.get(path, headers={"last-event-id": everything[1]["id"]})
    assert events(rest.text) == everything[2:]
    assert platform.builder.http.get(path, headers={"last-event-id": "x"}).status_code == 400


def test_log_is_live_and_a_build_waits_for_a_registry_that_is_away(platform: Platform, root: str) -> None:
    """Lines arrive while the build runs; it says that registry is away, goes on when it is back, and succeeds."""
    platform.registry.kill()
    try:
        running = build(platform, root, unique("e"))
        lines: list[str] = []
        with platform.builder.http.stream("GET", f"/v1/builds/{running['id']}/logs") as answer:
            for line in answer.iter_lines():
                lines.append(line)
                if len([one for one in lines if "asking again" in one]) == 1 and platform.registry.stopped:
                    assert platform.builder.http.get(f"/v1/builds/{running['id']}").json()["status"] == "running"
                    platform.registry.start()
        assert '"status":"succeeded"' in lines[-2] + lines[-1]
    finally:
        platform.registry.restart_if_stopped()


def test_build_fails_when_registry_stays_away(launch: Any) -> None:
    """After its patience the build fails in resolve, naming the package and the registry."""
    builder = launch("builder", REGISTRY_URL="http://127.0.0.1:9", REGISTRY_PATIENCE_S="0.2")
    body = {"environmentId": "e", "rootPackageName": "users"}
    path = f"/v1/builds/{builder.http.post('/v1/builds', json=body).json()['id']}"
    failed = eventually(lambda: builder.http.get(path).json(), lambda b: b["status"] in ("succeeded", "failed"))
    assert failed["status"] == "failed"
    assert failed["errorMessage"].startswith("resolve: package users: registry at http://127.0.0.1:9 ")
    assert failed["steps"][0]["status"] == "failed"
    assert failed["artifacts"] == []


def test_the_same_idempotency_key_asks_for_one_build(platform: Platform, root: str) -> None:
    """Asking again with the same key gives the build of the first time."""
    environment_id, key = unique("e"), unique("key")
    first = build(platform, root, environment_id, **{"idempotency-key": key})
    again = build(platform, root, environment_id, **{"idempotency-key": key})
    assert again["id"] == first["id"]
    listed = platform.builder.http.get("/v1/builds", params={"environment_id": environment_id}).json()["builds"]
    assert [one["id"] for one in listed] == [first["id"]]


def test_builds_are_listed_newest_first_in_pages(platform: Platform, root: str) -> None:
    """Pages hold every build of an environment once, the newest first."""
    environment_id = unique("e")
    asked = [build(platform, root, environment_id)["id"] for _ in range(3)]
    params: dict[str, Any] = {"environment_id": environment_id, "page_size": 2}
    first = platform.builder.http.get("/v1/builds", params=params).json()
    second = platform.builder.http.get("/v1/builds", params=params | {"page_token": first["nextPageToken"]}).json()
    assert [b["id"] for b in first["builds"] + second["builds"]] == asked[::-1]
    assert "nextPageToken" not in second
