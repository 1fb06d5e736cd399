"""gateway: which upstream a request goes to, and what reaches it."""

import json
import re
import socket
import time
from functools import partial
from typing import Any

import httpx
import pytest

from turbo_services.gateway.routes import ConfigError, GatewayRoute, Table, is_safe, parse

from .conftest import Platform, eventually


def route(prefix: str, upstream: str = "http://up", **more: Any) -> GatewayRoute:
    """A route."""
    return GatewayRoute(path_prefix=prefix, upstream_url=upstream, **more)


@pytest.mark.parametrize(
    ("path", "upstream", "rest"),
    [
        ("/pets", "http://pets", "/"),
        ("/pets/", "http://pets", "/"),
        ("/pets/1", "http://pets", "/1"),
        ("/pets/%31%2F2", "http://pets", "/%31%2F2"),
        ("/p%65ts/1", "http://pets", "/1"),
        ("/petstore", "http://root", "/petstore"),
        ("/pets/old/1", "http://old", "/1"),
        ("/pets//old", "http://pets", "//old"),
        ("/kept/1", "http://kept", "/kept/1"),
        ("/", "http://root", "/"),
    ],
)
def test_longest_prefix_of_whole_segments_wins(path: str, upstream: str, rest: str) -> None:
    """A route takes what lies under its segments; the longest one wins; the rest is passed on as it came."""
    table = Table(
        [
            route("/", "http://root"),
            route("/pets", "http://pets"),
            route("/pets/old/", "http://old"),
            route("/kept", "http://kept", strip_prefix=False),
        ]
    )
    match = table.match(path)
    assert match is not None
    assert (match[0].upstream_url, match[1]) == (upstream, rest)


def test_older_route_wins_and_the_other_is_reported() -> None:
    """Of two routes with one prefix the first, the older environment's, is in force; the other is told of."""
    first, second = route("/a", "http://one"), route("/a/", "http://two")
    table = Table([first, second])
    assert table.routes == [first]
    assert table.shadowed == [second]
    assert table.match("/none") is None


@pytest.mark.parametrize("path", ["/a/../b", "/a/%2e%2E/b", "/a/.%2e", "/a/%2e%2e%2fb", "/a/..%5cb", "/./a"])
def test_paths_that_walk_upwards_are_unsafe(path: str) -> None:
    """However it is encoded, a path that leaves its prefix is recognised."""
    assert not is_safe(path)
    assert is_safe("/a/..b/c..d/...")


@pytest.mark.parametrize(
    "document", [b"", b"[]", b"{}", b'{"routing": {"routes": [{"path_prefix": "a", "upstream_url": "http://u"}]}}']
)
def test_what_is_no_configuration(document: bytes) -> None:
    """A document that does not fit is refused as a whole."""
    with pytest.raises(ConfigError):
        parse(document)


@pytest.fixture
def routed(platform: Platform) -> Platform:
    """Gateway with routes to a well-behaved and to a dead upstream."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        dead = f"http://127.0.0.1:{unused.getsockname()[1]}"
    set_routes(
        platform,
        [
            {"path_prefix": "/up", "upstream_url": platform.upstream, "headers": {"X-Set": "by route"}},
            {"path_prefix": "/hasty", "upstream_url": platform.upstream, "timeout_ms": 200},
            {"path_prefix": "/dead", "upstream_url": dead},
        ],
    )
    return platform


def set_routes(platform: Platform, routes: list[dict[str, Any]]) -> None:
    """Give gateway these routes and wait until they are in force."""
    platform.operator.route(routes)
    wanted = sorted((one["path_prefix"], one["upstream_url"]) for one in routes)

    def seen() -> list[tuple[str, str]]:
        return [(r["path_prefix"], r["upstream_url"]) for r in platform.gateway.http.get("/-/routes").json()["routes"]]

    eventually(seen, lambda table: table == wanted)


def test_request_reaches_the_upstream_as_it_came(routed: Platform) -> None:
    """Method, path, query, body and repeated headers arrive; hop-by-hop ones do not; forwarding ones are added."""
    headers = [
        ("x-many", "1"),
        ("x-many", "2"),
        ("connection", "keep-alive, x-secret"),
        ("x-secret", "hop"),
        ("te", "trailers"),
        ("x-request-id", "mine"),
        ("x-forwarded-for", "9.9.9.9"),
        ("x-set", "by client"),
    ]
    answer = routed.gateway.http.post("/up/a%2Fb/c?x=1&x=2", content=b"12345", headers=headers)
    seen = answer.json()
    assert (seen["method"], seen["path"], seen["body"]) == ("POST", "/a%2Fb/c?x=1&x=2", 5)
    got = [(name.lower(), value) for name, value in seen["headers"]]
    values = {name: [v for n, v in got if n == name] for name, _ in got}
    assert values["x-many"] == ["1", "2"]
    assert values["x-set"] == ["by route"]
    assert values["x-request-id"] == ["mine"]
    assert values["x-forwarded-for"] == ["9.9.9.9, 127.0.0.1"]
    assert values["x-forwarded-prefix"] == ["/up"]
    assert values["x-forwarded-host"] == [f"127.0.0.1:{routed.gateway.port}"]
    assert values["x-forwarded-proto"] == ["http"]
    assert values["host"] == [routed.upstream.removeprefix("http://")]
    assert len(values["traceparent"]) == 1
    assert not {"x-secret", "te", "keep-alive"} & values.keys()


def test_answer_comes_back_as_it_was(routed: Platform) -> None:
    """Repeated headers come back repeated, hop-by-hop ones do not, and no cookie is kept for the next client."""
    answer = routed.gateway.http.get("/up/x")
    assert answer.headers.get_list("set-cookie") == ["a=1", "b=2"]
    assert answer.headers["x-kept"] == "yes"
    assert not {"x-hop", "keep-alive"} & answer.headers.keys()
    assert len(answer.headers.get_list("date")) == 1
    again = httpx.get(f"{routed.gateway.url}/up/x").json()
    assert "cookie" not in {name.lower() for name, _ in again["headers"]}


def test_body_is_streamed(routed: Platform) -> None:
    """The first piece of an answer arrives before the upstream has written the last."""
    started = time.monotonic()
    with routed.gateway.http.stream("GET", "/up/stream") as answer:
        pieces = [(time.monotonic() - started, piece) for piece in answer.iter_raw()]
    assert b"".join(piece for _, piece in pieces) == b"".join(b"piece %d\n" % n for n in range(4))
    assert pieces[-1][0] - pieces[0][0] >= 0.4


def test_large_body_is_passed_on(routed: Platform) -> None:
    """A body beyond the limit of the services' own APIs passes; it is the upstream's business."""
    assert routed.gateway.http.put("/up/big", content=b"x" * (5 * 1024 * 1024)).json()["body"] == 5 * 1024 * 1024


def test_errors_tell_gateway_from_upstream(routed: Platform) -> None:
    """No route, the upstream's own 404, an upstream that is away and one that is slow can be told apart."""
    http = routed.gateway.http
    nowhere = http.get("/nowhere")
    assert (nowhere.status_code, nowhere.headers["x-turbo-gateway"]) == (404, "no-route")
    own = http.get("/up/missing")
    assert (own.status_code, own.content) == (404, b"upstream's own")
    assert "x-turbo-gateway" not in own.headers
    dead = http.get("/dead/x")
    assert (dead.status_code, dead.json()["error"]["code"]) == (502, "upstream_unavailable")
    slow = http.get("/hasty/slow")
    assert (slow.status_code, slow.json()["error"]["code"]) == (504, "upstream_timeout")
    assert {"x-request-id"} <= nowhere.headers.keys() & dead.headers.keys() & slow.headers.keys()
    with socket.create_connection(("127.0.0.1", routed.gateway.port)) as raw:
        raw.sendall(b"GET /up/../x HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        assert b" 400 " in raw.recv(100)


def test_answer_that_breaks_off_does_not_look_complete(routed: Platform) -> None:
    """When the upstream dies in the middle, the client notices."""
    with pytest.raises(httpx.RemoteProtocolError):
        routed.gateway.http.get("/up/break")


def test_client_that_goes_away_frees_the_upstream(routed: Platform) -> None:
    """Clients that leave in the middle of an answer leave no connection behind."""

    def open_files() -> int:
        found = re.search(r"^process_open_fds (\S+)", routed.gateway.http.get("/metrics").text, re.MULTILINE)
        assert found is not None
        return int(float(found[1]))

    before = open_files()
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", routed.gateway.port)) as raw:
            raw.sendall(b"GET /up/stream HTTP/1.1\r\nhost: x\r\n\r\n")
            assert raw.recv(10)
    eventually(open_files, lambda count: count <= before + 5)


def test_bad_configuration_keeps_the_last_good_one_and_says_so(routed: Platform) -> None:
    """A reload that cannot be used, and a source that is away, leave the routes in force."""

    def table() -> Any:
        return routed.gateway.http.get("/-/routes").json()

    good = table()
    assert "error" not in good
    with routed.operator.changed:
        routed.operator.config = json.dumps({"routing": {"routes": [{"path_prefix": "x"}]}}).encode()
        routed.operator.changed.notify_all()
    bad = eventually(table, lambda seen: "error" in seen)
    assert bad["routes"] == good["routes"]
    assert routed.gateway.http.get("/up/x").status_code == 200
    assert routed.gateway.http.get("/readyz").status_code == 200
    routed.operator.down = True
    eventually(table, lambda seen: "503" in seen.get("error", ""))
    assert routed.gateway.http.get("/up/x").status_code == 200


def test_first_load_is_retried_and_file_changes_are_followed(platform: Platform, tmp_path: Any, launch: Any) -> None:
    """Without a configuration gateway is not ready and says why; it follows the file as soon as there is one."""
    file = tmp_path / "routes.json"
    gateway = launch("gateway", CONFIG_URL=file.as_uri())
    answer = gateway.http.get("/readyz")
    assert answer.status_code == 503
    assert "No such file" in answer.json()["dependencies"]["configuration"]

    def status(path: str) -> int:
        return int(gateway.http.get(path).status_code)

    for prefix in ("/one", "/two"):
        document = {"routing": {"routes": [{"path_prefix": prefix, "upstream_url": platform.upstream}]}}
        file.write_text(json.dumps(document))
        eventually(partial(status, f"{prefix}/x"), lambda seen: seen == 200)
    assert gateway.http.get("/one/x").status_code == 404
    assert gateway.http.get("/readyz").status_code == 200
