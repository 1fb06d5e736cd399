"""One real browser a run: started when first needed, driven from a thread of its own.

Playwright's synchronous interface refuses to run where an event loop already does, as in every notebook; in a thread
of its own it is at home, and starting it costs the run no time while other steps go on.
"""

import os
import shutil
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from k8s_e2e.base.errors import ExpectationError
from k8s_e2e.base.redaction import Redactor
from k8s_e2e.base.text import one_line

FLAGS = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 3.0
_NAMES = ("chromium", "chromium-browser", "google-chrome")
_MOST_ERRORS = 50

# Text a person can see, node by node: what is replaced here is replaced in the picture, too.
_TEXTS = """() => {
  const nodes = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) nodes.push(walker.currentNode);
  window.__texts = nodes;
  window.__fields = [...document.querySelectorAll('input, textarea')];
  return [...nodes.map(n => n.nodeValue), ...window.__fields.map(f => f.value || '')];
}"""
_REPLACE = """changes => {
  for (const [index, text] of changes) {
    if (index < window.__texts.length) window.__texts[index].nodeValue = text;
    else window.__fields[index - window.__texts.length].value = text;
  }
}"""
_HAS_ALL = "texts => texts.every(text => document.body.innerText.includes(text))"


class NoBrowser(ExpectationError):
    """There is no browser, or it does not start."""


class Shot(NamedTuple):
    """A picture (PNG) of a page and what the page says; ``missing`` are texts that it should have shown."""

    png: bytes
    url: str
    title: str
    status: int
    text: str
    console_errors: list[str]
    missing: list[str]
    redactions: int


def find_browser() -> Path | None:
    """Return the browser to use: K8S_E2E_CHROMIUM, else the system's Chromium; None = playwright's own, if any."""
    named = os.environ.get("K8S_E2E_CHROMIUM")
    if named:
        return Path(named)
    found = next((path for name in _NAMES if (path := shutil.which(name))), None)
    return Path(found) if found else None


def _check(executable: Path) -> None:
    if not executable.exists():
        message = f"there is no browser for screenshots ({executable} does not exist)"
        raise NoBrowser(message, hint="Debian: `apt-get install chromium`; or set K8S_E2E_CHROMIUM")


class Browser:
    """A browser that starts in the background and takes one picture at a time."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="browser")
        self._started: Future[None] | None = None
        self._playwright: Any = None
        self._browser: Any = None

    def start(self) -> None:
        """Begin to start the browser; returns at once."""
        if self._started is None:
            self._started = self._thread.submit(self._start)

    def shot(
        self,
        url: str,
        *,
        redactor: Redactor,
        headers: dict[str, str],
        contains: Sequence[str] = (),
        mask: Sequence[str] = (),
        width: int = 1280,
        height: int = 800,
        theme: str = "light",
        timeout_s: float = 15.0,
    ) -> Shot:
        """Load ``url``, wait until it shows every text of ``contains``, redact it, take a picture of the whole page.

        Raises:
            NoBrowser: there is none, or it does not start.
            ExpectationError: the page does not load.
        """
        self.start()
        assert self._started
        self._started.result(timeout=START_TIMEOUT_S)
        job = self._thread.submit(
            self._shot, url, redactor, headers, contains, mask, {"width": width, "height": height}, theme, timeout_s
        )
        return job.result(timeout=timeout_s * 3 + START_TIMEOUT_S)

    def close(self) -> None:
        """End the browser, if it was started; one that hangs is left to end with this process."""
        if self._started is not None:
            with suppress(TimeoutError):
                self._thread.submit(self._stop).result(timeout=STOP_TIMEOUT_S)
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _start(self) -> None:
        from playwright.sync_api import Error, sync_playwright  # noqa: PLC0415 - half a second that most runs do not need

        executable = find_browser()
        as_root = hasattr(os, "geteuid") and os.geteuid() == 0
        try:
            self._playwright = sync_playwright().start()
            own = Path(self._playwright.chromium.executable_path)
            _check(executable or own)
            self._browser = self._playwright.chromium.launch(
                executable_path=executable or own,
                headless=True,
                args=[*FLAGS, *(["--no-sandbox"] if as_root else [])],  # Chromium's sandbox refuses to run as root
                chromium_sandbox=not as_root,
                timeout=START_TIMEOUT_S * 1000,
            )
        except NoBrowser:
            self._stop()
            raise
        except (Error, OSError) as error:
            self._stop()
            message = f"the browser {executable or ''} does not start: {one_line(str(error))}"
            raise NoBrowser(message, hint="`k8s-e2e doctor` says what is missing") from error

    def _stop(self) -> None:
        with suppress(Exception):  # it may have died already, which is as good
            if self._browser is not None:
                self._browser.close()
        with suppress(Exception):
            if self._playwright is not None:
                self._playwright.stop()
        self._browser = self._playwright = None

    def _shot(
        self,
        url: str,
        redactor: Redactor,
        headers: dict[str, str],
        contains: Sequence[str],
        mask: Sequence[str],
        size: dict[str, int],
        theme: str,
        timeout_s: float,
    ) -> Shot:
        from playwright.sync_api import Error  # noqa: PLC0415 - see _start()
        from playwright.sync_api import TimeoutError as TooLate  # noqa: PLC0415

        errors: list[str] = []
        context = self._browser.new_context(viewport=size, color_scheme=theme, extra_http_headers=headers)
        try:
            page = context.new_page()
            page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
            page.on("pageerror", lambda error: errors.append(str(error)))
            response = page.goto(url, wait_until="load", timeout=timeout_s * 1000)
            missing: list[str] = []
            if contains:
                try:
                    page.wait_for_function(_HAS_ALL, arg=list(contains), timeout=timeout_s * 1000)
                except TooLate:
                    shown = page.inner_text("body")
                    missing = [text for text in contains if text not in shown]
            before = sum(redactor.counts.values())
            texts = page.evaluate(_TEXTS)
            changes = [[at, new] for at, old in enumerate(texts) if (new := redactor.text(old)) != old]
            if changes:
                page.evaluate(_REPLACE, changes)
            png = page.screenshot(
                full_page=True, animations="disabled", mask=[page.locator(selector) for selector in mask]
            )
            return Shot(
                png=png,
                url=redactor.text(page.url),
                title=redactor.text(page.title()),
                status=response.status if response else 0,
                text=redactor.text(page.inner_text("body")),
                console_errors=[redactor.text(error) for error in errors[:_MOST_ERRORS]],
                missing=missing,
                redactions=sum(redactor.counts.values()) - before,
            )
        except Error as error:
            message = f"{url} does not load: {one_line(str(error))}"
            raise ExpectationError(message) from error
        finally:
            with suppress(Error):
                context.close()
