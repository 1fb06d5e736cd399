"""console's pages, as the server sends them."""

import re

from .conftest import Platform, eventually, unique

PAGES = ("/", "/packages", "/environments", "/builds")


def test_pages_show_what_there_is_and_link_to_each_other(platform: Platform, root: str) -> None:
    """Each page of an environment's chain names and links the next: environment, build, package."""
    created = platform.create(root, branch="feature/x", createdBy="someone")
    environment_id, build_id = created["id"], created["currentBuildId"]
    eventually(lambda: platform.status(environment_id)["phase"], lambda phase: phase == "Running")
    console = platform.console.http
    assert f'href="/environments/{environment_id}"' in console.get("/environments").text
    page = console.get(f"/environments/{environment_id}").text
    for expected in (f'href="/builds/{build_id}"', f'href="/packages/{root}"', "Running", "feature/x", "Delete"):
        assert expected in page
    build = console.get(f"/builds/{build_id}").text
    assert f'href="/environments/{environment_id}"' in build
    assert f'data-log="/builds/{build_id}/log"' in build
    assert "event: done" in console.get(f"/builds/{build_id}/log").text
    assert f'href="/packages/{root}"' in console.get("/packages").text
    assert "1.0.0" in console.get(f"/packages/{root}").text
    assert build_id in console.get("/").text


def test_nothing_is_loaded_from_elsewhere(platform: Platform) -> None:
    """Pages and style sheets name no other host, and the policy forbids it."""
    for path in (*PAGES, "/static/console.css", "/static/console.js"):
        answer = platform.console.http.get(path)
        assert answer.status_code == 200
        linked = re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?([^"')\s>]+)""", answer.text)
        assert all(not re.match(r"(https?:)?//", target) for target in linked)
    policy = platform.console.http.get("/").headers["content-security-policy"]
    assert policy.startswith("default-src 'self'")


def test_text_from_packages_is_shown_as_text(platform: Platform) -> None:
    """Markup in what was published is escaped."""
    name = unique("evil")
    platform.publish(name, schema="<script>alert(1)</script>")
    page = platform.console.http.get(f"/packages/{name}").text
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page


def test_what_is_not_there_has_a_page(platform: Platform) -> None:
    """Unknown things are 404 with a page that says so and leads on."""
    for path in ("/packages/none", "/environments/none", "/builds/none", "/none"):
        answer = platform.console.http.get(path)
        assert answer.status_code == 404
        assert "Not found" in answer.text
        assert 'role="alert"' in answer.text


def test_services_that_are_away_are_named_on_every_page(platform: Platform, launch: object) -> None:
    """With nothing behind it, console still answers every page, says what is away, and stays ready."""
    away = {f"VITE_{name}_URL": "http://127.0.0.1:9" for name in ("REGISTRY", "BUILDER", "ENVMANAGER", "OPERATOR")}
    console = launch("console", **away)  # type: ignore[operator]
    for path in PAGES:
        answer = console.http.get(path)
        assert answer.status_code == 200
        assert "does not answer" in answer.text
    assert console.http.get("/environments/x").status_code == 503
    assert console.http.get("/readyz").status_code == 200


def test_empty_lists_say_what_to_do(launch: object, tmp_path: object) -> None:
    """Without packages, environments and builds each page explains how to begin."""
    registry = launch("registry")  # type: ignore[operator]
    away = {f"VITE_{name}_URL": "http://127.0.0.1:9" for name in ("BUILDER", "ENVMANAGER", "OPERATOR")}
    console = launch("console", VITE_REGISTRY_URL=registry.url, **away)  # type: ignore[operator]
    page = console.http.get("/packages").text
    assert "No package yet" in page
    assert "/v1/packages" in page


def test_buttons_act_and_tell_of_refusals(platform: Platform, root: str) -> None:
    """The buttons rebuild and delete; a refusal is shown; another site's form is not obeyed."""
    environment_id = platform.create(root)["id"]
    eventually(lambda: platform.environment(environment_id)["status"], lambda status: status == "ready")
    before = platform.environment(environment_id)["currentBuildId"]
    path = f"/environments/{environment_id}"
    foreign = platform.console.http.post(f"{path}/delete", headers={"sec-fetch-site": "cross-site"})
    assert foreign.status_code == 403
    assert platform.console.http.post(f"{path}/delete", headers={"origin": "http://evil"}).status_code == 403
    assert platform.console.http.post(f"{path}/rebuild").headers["location"] == path
    assert platform.environment(environment_id)["currentBuildId"] != before
    platform.operator.forced[environment_id] = {"environmentId": environment_id, "phase": "Deleting"}
    assert platform.console.http.post(f"{path}/delete").status_code == 303
    refused = platform.console.http.post(f"{path}/rebuild", follow_redirects=True)
    assert "is being deleted" in refused.text
