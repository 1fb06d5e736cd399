"""registry's HTTP API."""

from typing import Any

import pytest

from .conftest import Platform, unique


def spec(**changes: Any) -> dict[str, Any]:
    """A package to publish."""
    return {"name": unique("pkg"), "version": "1.0.0", "kind": "rest-service", **changes}


@pytest.mark.parametrize(
    ("package", "named"),
    [
        (spec(version="1.0"), "$.package.version"),
        (spec(kind="cron"), "$.package.kind"),
        (spec(name="Upper"), "$.package.name"),
        (spec(name="line\n"), "$.package.name"),
        (spec(colour="red"), "`colour`"),
        (spec(runtime={"imege": "x"}), "`imege`"),
        (spec(runtime={"replicas": -1}), "$.package.runtime.replicas"),
        (spec(runtime={"replicas": "2"}), "$.package.runtime.replicas"),
        (spec(runtime={"port": 70000}), "$.package.runtime.port"),
        (spec(runtime={"env": {"1A": "x"}}), "$.package.runtime.env"),
        (spec(runtime={"resources": {"limits": {"cpu": "lots"}}}), "$.package.runtime.resources.limits"),
        (spec(runtime={"annotations": {"-": "x"}}), "$.package.runtime.annotations"),
        (spec(routes=[{"path": "pets"}]), "$.package.routes[0].path"),
        (spec(upstreamConfig={"url": "ftp://x"}), "$.package.upstreamConfig.url"),
        (spec(dependencies=[{"packageName": "a", "versionConstraint": "banana"}]), "$.package.dependencies[0]"),
        (spec(dependencies=[{"packageName": "a"}, {"packageName": "a"}]), "listed twice"),
        (spec(dependencies=None), "$.package.dependencies"),
        ({"name": "x"}, "`version`"),
    ],
)
def test_publication_refuses_what_does_not_fit_by_name(platform: Platform, package: Any, named: str) -> None:
    """Each wrong field is refused with 400 and its place in the body."""
    answer = platform.registry.http.post("/v1/packages", json={"package": package})
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "bad_request"
    assert named in answer.json()["error"]["message"]


def test_package_is_read_back_as_published(platform: Platform) -> None:
    """What is published comes back with its defaults, by exact version and by latest; lists are never null."""
    name = f"@acme/{unique('deep/pkg')}"
    published = platform.publish(name, "1.0.0", metadata={"k": [1, None]})
    path = f"/v1/packages/{name.replace('@', '%40').replace('/', '%2F')}/versions"
    assert platform.registry.http.get(f"{path}/1.0.0").json() == published
    assert platform.registry.http.get(f"{path}/latest").json() == published
    assert published["dependencies"] == published["routes"] == []
    assert published["runtime"]["replicas"] == 1
    assert published["yanked"] is False
    assert published["metadata"] == {"k": [1, None]}


def test_version_is_published_once(platform: Platform) -> None:
    """A version that exists is refused with 409, in another namespace it is not."""
    package = spec()
    statuses = [
        platform.registry.http.post("/v1/packages", json={"package": p}).status_code
        for p in (package, package, {**package, "namespace": "other"})
    ]
    assert statuses == [201, 409, 201]


def test_yanked_version_is_listed_and_readable_but_never_chosen(platform: Platform) -> None:
    """A yank is idempotent and hides the version from ranges and latest only."""
    name = unique("yank")
    for version in ("1.0.0", "1.1.0"):
        platform.publish(name, version)
    path = f"/v1/packages/{name}/versions"
    for _ in range(2):
        assert platform.registry.http.delete(f"{path}/1.1.0").json()["yanked"] is True
    assert platform.registry.http.get(f"{path}/latest").json()["version"] == "1.0.0"
    assert platform.registry.http.get(f"{path}/%5E1").json()["version"] == "1.0.0"
    assert platform.registry.http.get(f"{path}/1.1.0").json()["yanked"] is True
    listed = platform.registry.http.get("/v1/packages", params={"name_prefix": name}).json()["packages"]
    assert [p["version"] for p in listed] == ["1.0.0", "1.1.0"]
    missing = platform.registry.http.get(f"{path}/%5E2")
    assert missing.status_code == 404
    assert "1.1.0 (yanked)" in missing.json()["error"]["message"]


def test_pages_hold_everything_once_in_order(platform: Platform) -> None:
    """Walking the pages meets every version once, versions in semver's order; foreign tokens are refused."""
    name = unique("page")
    versions = ["1.0.0-rc.1", "1.0.0", "1.2.0", "1.10.0", "2.0.0"]
    for version in reversed(versions):
        platform.publish(name, version)
    seen, token = [], None
    while True:
        params = {"name_prefix": name, "page_size": 2} | ({"page_token": token} if token else {})
        page = platform.registry.http.get("/v1/packages", params=params).json()
        seen += [package["version"] for package in page["packages"]]
        token = page.get("nextPageToken")
        if token is None:
            break
    assert seen == versions
    for bad in ("x", "bm9wZQ", "WzFd", "ÿ"):
        assert platform.registry.http.get("/v1/packages", params={"page_token": bad}).status_code == 400


def test_name_prefix_is_taken_literally(platform: Platform) -> None:
    """A prefix holds no wildcards."""
    name = unique("lit")
    platform.publish(f"{name}_x")
    platform.publish(f"{name}ax")
    found = platform.registry.http.get("/v1/packages", params={"name_prefix": f"{name}_"}).json()["packages"]
    assert [p["name"] for p in found] == [f"{name}_x"]


def test_unresolvable_dependencies_tell_the_chain(platform: Platform) -> None:
    """422 with the way from the root to what is missing."""
    middle, top = unique("middle"), unique("top")
    platform.publish(middle, needs={"no-such-leaf": "^3"})
    platform.publish(top, needs={middle: "*"})
    answer = platform.registry.http.get(f"/v1/packages/{top}/versions/latest/dependencies")
    assert answer.status_code == 422
    message = answer.json()["error"]["message"]
    assert f"{top}@1.0.0 -> {middle}@1.0.0 -> no-such-leaf@^3" in message
    assert "is not published" in message


def test_closure_is_in_topological_order(platform: Platform) -> None:
    """Every package comes after those it depends on; the root is last."""
    a, b, c = unique("a"), unique("b"), unique("c")
    platform.publish(c)
    platform.publish(b, needs={c: "^1"})
    platform.publish(a, needs={b: "^1", c: "^1"})
    answer = platform.registry.http.get(f"/v1/packages/{a}/versions/1.0.0/dependencies").json()
    assert [p["name"] for p in answer["packages"]] == [c, b, a]
