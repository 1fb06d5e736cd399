"""Pictures of pages in a real browser: what they show, what they hide, and what happens without a browser."""

import asyncio
import http.server
import json
import re
import struct
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from k8s_e2e.base.errors import ExpectationError
from k8s_e2e.base.files import Lines
from k8s_e2e.base.redaction import Redactor
from k8s_e2e.model.layout import RunDir
from k8s_e2e.model.profile import Profile, ServicePort
from k8s_e2e.model.settings import Settings
from k8s_e2e.platform.http import Requester
from k8s_e2e.scenarios import engine, loader
from k8s_e2e.scenarios.browser import Browser, NoBrowser, find_browser

pytestmark = pytest.mark.browser

TOKEN = "hunter2hunter2"
PAGE = f"""<!doctype html><title>Shop</title><link rel="icon" href="data:,">
<h1>Pets</h1><p id="late"></p><p>api_token={TOKEN}</p><p>literal planted-value-9</p><input value="planted-value-9">
<div style="height: 3000px; background: #0a0">tall</div>
<script>setTimeout(() => {{ document.getElementById('late').textContent = 'Ada is here'; }}, 300);
console.error('cannot load secret={TOKEN}');</script>"""


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves the page, a 404 elsewhere; remembers the headers."""

    def do_GET(self):
        """Answer."""
        self.server.traceparents.append(self.headers["traceparent"])
        self.send_response(200 if self.path == "/" else 404)
        self.send_header("content-type", "text/html")
        self.end_headers()
        self.wfile.write(PAGE.encode() if self.path == "/" else b"<title>Lost</title>nothing here")

    def log_message(self, *_):
        """Stay quiet."""


@pytest.fixture
def server():
    """The page, on loopback."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.traceparents = []
        threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True).start()
        yield running
        running.shutdown()


@pytest.fixture(scope="module")
def browser():
    """One browser for the module."""
    if find_browser() is None:
        pytest.skip("there is no Chromium: apt-get install chromium")
    opened = Browser()
    yield opened
    opened.close()


def shoot(browser, server, path="/", **options):
    """Take a picture with the planted secret known."""
    redactor = Redactor({"planted": "planted-value-9"})
    url = f"http://127.0.0.1:{server.server_port}{path}"
    return browser.shot(url, **{"redactor": redactor, "headers": {}, "timeout_s": 20, **options})


def size(png):
    """Return width and height of a PNG."""
    assert png.startswith(b"\x89PNG")
    return struct.unpack(">II", png[16:24])


def test_a_picture_shows_the_whole_page_once_it_shows_what_is_asked_for(browser, server):
    """Texts that come late are waited for; the page is taken at full height."""
    shot = shoot(browser, server, contains=["Ada is here"], width=640)
    assert (shot.title, shot.status, shot.missing) == ("Shop", 200, [])
    assert "Pets" in shot.text
    width, height = size(shot.png)
    assert width == 640
    assert height > 3000


def test_secrets_are_gone_from_text_console_and_picture(browser, server):
    """Known values and what looks like a secret are replaced in the page itself, before the picture is taken."""
    shot = shoot(browser, server)
    assert TOKEN not in shot.text + "".join(shot.console_errors)
    assert "planted-value-9" not in shot.text
    assert "api_token=[redacted:" in shot.text
    assert shot.redactions >= 4
    (said,) = shot.console_errors
    assert re.fullmatch(r"cannot load secret=\[redacted:named-secret:[0-9a-f]{12}\]", said)


def test_what_a_page_does_not_show_is_named(browser, server):
    """The wait ends at its timeout, and the picture is taken all the same."""
    shot = shoot(browser, server, contains=["Pets", "Brutus"], timeout_s=2)
    assert shot.missing == ["Brutus"]
    assert size(shot.png)[1] > 3000


def test_a_page_that_does_not_load_is_an_error(browser, server):
    """No server behind the address."""
    url = "http://127.0.0.1:9/"
    with pytest.raises(ExpectationError, match=r"127\.0\.0\.1:9/ does not load"):
        browser.shot(url, redactor=Redactor(), headers={}, timeout_s=5)


def test_the_browser_runs_beside_an_event_loop(browser, server):
    """Notebooks have one running in the thread that calls."""

    async def inside():
        return shoot(browser, server)

    assert asyncio.run(inside()).status == 200


def test_a_browser_that_is_not_there_is_told_with_the_mend(server, monkeypatch):
    """The error names what was looked for and the command that installs one."""
    monkeypatch.setenv("K8S_E2E_CHROMIUM", "/nowhere/chromium")
    opened = Browser()
    with pytest.raises(NoBrowser, match=r"/nowhere/chromium does not exist.*apt-get install chromium"):
        shoot(opened, server)
    opened.close()


@pytest.fixture
def play(server, tmp_path):
    """Return a function that runs steps of screenshots and returns their results."""
    services = (ServicePort(name="web", port=80),)
    profile = Profile(root=tmp_path, name="p", overlay="o", namespace="n", services=services)
    forwards = SimpleNamespace(url=lambda *_, **__: f"http://127.0.0.1:{server.server_port}")
    run = RunDir(tmp_path / "run")
    lines = Lines(run.requests)
    context = engine.Context(
        kube=None,
        requester=Requester(forwards, profile, lines),
        forwards=forwards,
        kubectl=Path("/nowhere/kubectl"),
        cluster=None,
        namespace="n",
        profile=profile,
        run=run,
        run_id="r",
        settings=Settings(),
    )

    def play(*steps):
        path = tmp_path / "one.yaml"
        path.write_text("name: one\nsteps:\n" + "".join(f"  - {step}\n" for step in steps))
        return engine.run(loader.load([str(path)], profile), context, print).scenarios[0].steps

    yield play
    lines.close()


def test_a_screenshot_step_leaves_picture_words_and_request(play, server, tmp_path):
    """PNG and JSON lie side by side, the request is in requests.jsonl with the trace that the page was asked with."""
    good, bad = play(
        "{name: The Shop!, screenshot: {service: web, path: /, contains: [Ada], width: 500}}",
        "{name: errors, screenshot: {service: web, path: /, console_errors: 0}, timeout: 10s}",
    )
    assert (good.status, good.kind) == ("passed", "screenshot")
    picture = tmp_path / "run/screenshots/one-01-the-shop.png"
    about = json.loads(picture.with_suffix(".json").read_text())
    assert good.evidence == [f"screenshots/{picture.name}", "screenshots/one-01-the-shop.json", "requests.jsonl#L1"]
    assert size(picture.read_bytes())[0] == 500
    assert (about["title"], about["status"], about["step"]) == ("Shop", 200, "one/01")
    assert TOKEN not in picture.with_suffix(".json").read_text()
    request = json.loads((tmp_path / "run/requests.jsonl").read_text().splitlines()[0])
    assert request["trace_id"] == about["trace_id"] == good.trace_ids[0]
    assert request["traceparent"] in server.traceparents
    assert bad.message.startswith("1 errors in the console: cannot load")


def test_a_page_that_is_not_found_fails_its_step(play):
    """A picture of an error page is not a pass, but it is kept."""
    (step,) = play("screenshot: {service: web, path: /lost}")
    assert (step.status, step.message) == ("failed", "the page answered 404")
    assert step.evidence[0].endswith(".png")


def test_without_a_browser_the_step_is_skipped_and_says_why(play, monkeypatch):
    """A machine without Chromium still proves everything else."""
    monkeypatch.setenv("K8S_E2E_CHROMIUM", "/nowhere/chromium")
    (step,) = play("screenshot: {service: web, path: /}")
    assert step.status == "skipped"
    assert "there is no browser for screenshots" in step.message
    assert "apt-get install chromium" in step.message
