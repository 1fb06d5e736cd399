"""The comments of one issue or pull request, by GitHub's REST API (version 2022-11-28), and nothing else of it.

From docs.github.com/en/rest: "Issue comments", "Using pagination in the REST API", "Rate limits for the REST API",
"Best practices" (redirects), "Get the authenticated user".
"""

import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar
from urllib.parse import urljoin, urlsplit

import msgspec

from k8s_e2e.base import http
from k8s_e2e.base.text import one_line
from k8s_e2e.report.github.patience import GaveUp, Later, Patience

T = TypeVar("T")

_PER_PAGE = 100  # the most that is allowed; 30 is the default
_REDIRECTS = 3
_SECONDARY_S = 60.0  # "wait for at least one minute", where a secondary limit does not say how long
_CONNECT_S = 5.0
_SHORTEST = 8  # characters of a token: what is shorter is none, and would blank out words
_OK, _CREATED, _NO_CONTENT, _SERVER_ERROR = 200, 201, 204, 500
_NOT_FOUND = (404, 410)
_TOO_LONG = (413, 422)


class Refused(Exception):
    """GitHub will not do it, however often it is asked. ``status`` is 0 where it is our side that refuses."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status
        self.why = why


class TooLong(Exception):
    """The text is longer than GitHub takes."""


class Author(msgspec.Struct, frozen=True):
    """An account. ``type`` is ``User``, ``Bot`` or ``Organization``."""

    id: int = 0
    login: str = ""
    type: str = ""


class App(msgspec.Struct, frozen=True):
    """The GitHub App by which something was done."""

    slug: str = ""


class Comment(msgspec.Struct, frozen=True):
    """One comment. Ids grow: the smallest is the oldest. The author is None where the account is gone."""

    id: int
    body: str | None = None
    user: Author | None = None
    performed_via_github_app: App | None = None
    html_url: str = ""


class IssueComments:
    """The comments of one issue or pull request of one repository.

    Reading is repeated within ``patience`` where that may help. Writing is tried once and raises `Later`: it may have
    happened all the same, so that whoever writes looks before it writes again.

    Every method raises:
        GaveUp: no usable answer within the deadline.
        Refused: an answer that will not change.
    """

    def __init__(
        self, *, api_url: str, token: str, repository: str, number: int, patience: Patience, timeout_s: float
    ) -> None:
        self._base = f"{api_url.rstrip('/')}/repos/{repository}/issues"
        self._user = f"{api_url.rstrip('/')}/user"
        self._number = number
        self._token = token
        self._patience = patience
        self._timeout_s = timeout_s
        self._origin = _origin(api_url)
        if not token.isascii() or not token.isprintable() or " " in token:
            raise Refused(0, "GITHUB_TOKEN holds characters that no token has")
        self._client = http.api_client(connect_s=_CONNECT_S, timeout_s=timeout_s)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def me(self) -> Author | None:
        """Return whose token it is; None for the token of an app, which has no user that may be asked for."""
        response, author = self._read(self._user, Author)
        if response.status_code not in (403, *_NOT_FOUND):
            self._granted(response)
        return author

    def all(self) -> list[Comment]:
        """Return every comment, oldest first."""
        found = {comment.id: comment for page in self._pages() for comment in page}
        return [found[number] for number in sorted(found)]

    def get(self, comment: int) -> Comment | None:
        """Return one comment as it is now, None where it is gone."""
        response, found = self._read(f"{self._base}/comments/{comment}", Comment)
        if response.status_code not in _NOT_FOUND:
            self._granted(response)
        return found

    def create(self, body: str) -> Comment:
        """Write a comment.

        Raises:
            TooLong: it is too long.
            Later: no usable answer; it may have been written.
        """
        response = self._granted(self._send("POST", f"{self._base}/{self._number}/comments", {"body": body}))
        return _decoded(response, Comment)

    def update(self, comment: int, body: str) -> Comment | None:
        """Write another text into a comment; None where it is gone.

        Raises:
            TooLong: it is too long.
            Later: no usable answer; it may have been written.
        """
        response = self._send("PATCH", f"{self._base}/comments/{comment}", {"body": body})
        return None if response.status_code in _NOT_FOUND else _decoded(self._granted(response), Comment)

    def delete(self, comment: int) -> None:
        """Delete a comment; one that is gone already is no error.

        Raises:
            Later: no usable answer; it may be gone.
        """
        response = self._send("DELETE", f"{self._base}/comments/{comment}")
        if response.status_code not in _NOT_FOUND:
            self._granted(response)

    def _pages(self) -> Iterator[list[Comment]]:
        url, seen = f"{self._base}/{self._number}/comments?per_page={_PER_PAGE}", set[str]()
        while url and url not in seen:
            seen.add(url)
            response, page = self._read(url, list[Comment])
            self._granted(response)
            yield page or []
            url = urljoin(url, response.links.get("next", {}).get("url", "")) if "next" in response.links else ""

    def _read(self, url: str, kind: type[T]) -> tuple[http.Response, T | None]:
        """Return the answer and, where it is no refusal, what it holds."""
        while True:
            try:
                response = self._send("GET", url)
                return response, _decoded(response, kind) if response.is_success else None
            except Later as later:
                self._patience.wait(later)

    def _send(self, method: str, url: str, body: dict[str, str] | None = None) -> http.Response:
        """Send once and return the answer, redirects on the same host followed (with the same method).

        Raises:
            Later: no answer, half of one, a 5xx, or a rate limit.
            Refused: a redirect to somewhere else: the token stays here.
        """
        for _ in range(_REDIRECTS):
            if _origin(url) != self._origin:
                raise Refused(0, f"{self._origin} points to {_origin(url)}, which the token is not sent to")
            response = self._exchange(method, url, body)
            if not response.has_redirect_location:
                self._raise_later(method, response)
                return response
            url = urljoin(url, response.headers["location"])
        raise Refused(0, f"more than {_REDIRECTS} redirects")

    def _exchange(self, method: str, url: str, body: dict[str, str] | None) -> http.Response:
        headers = {
            "accept": "application/vnd.github+json",
            "authorization": f"Bearer {self._token}",
            "user-agent": "k8s-e2e",
            "x-github-api-version": "2022-11-28",
        }
        timeout_s = min(self._timeout_s, self._patience.left_s)
        if timeout_s <= 0:
            raise GaveUp(f"the {self._patience.total_s:.0f} s for publishing are over")
        deadline = time.monotonic() + timeout_s
        try:
            with self._client.stream(method, url, json=body, headers=headers, timeout=timeout_s) as response:
                pieces = []
                for piece in response.iter_bytes():
                    pieces.append(piece)
                    if time.monotonic() > deadline:
                        raise http.ReadTimeout("the answer was still coming")
        except http.HTTPError as error:
            why = self._clean(str(error)) or "no more is known"
            raise Later(f"{_origin(url)} did not answer {method}: {type(error).__name__}: {why}") from None
        return http.Response(
            response.status_code, headers=_plain(response.headers), content=b"".join(pieces), request=response.request
        )

    def _raise_later(self, method: str, response: http.Response) -> None:
        status, headers = response.status_code, response.headers
        said = self._message(response)
        limited = (
            "retry-after" in headers or headers.get("x-ratelimit-remaining") == "0" or "rate limit" in said.lower()
        )
        if status == 429 or (status == 403 and limited):  # noqa: PLR2004
            raise Later(f"{self._origin} limits the rate of requests ({status}: {said})", after_s=_pause_s(response))
        if status >= _SERVER_ERROR or status == 408:  # noqa: PLR2004
            after_s = _seconds(headers.get("retry-after", ""))
            raise Later(f"{self._origin} answered {method} with {status}: {said}", after_s=after_s)

    def _granted(self, response: http.Response) -> http.Response:
        status = response.status_code
        if status in (_OK, _CREATED, _NO_CONTENT):
            return response
        if status in _TOO_LONG and (status != 422 or "too long" in response.text.lower()):  # noqa: PLR2004
            raise TooLong
        raise Refused(status, f"{status}: {self._message(response)}")

    def _message(self, response: http.Response) -> str:
        """Return what GitHub says is wrong: its ``message``, and those of its ``errors``."""
        try:
            told = msgspec.json.decode(response.content)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            told = None
        if not isinstance(told, dict):
            return self._clean(response.text, 120) or response.reason_phrase
        errors = told.get("errors")
        said = [told.get("message"), *(errors if isinstance(errors, list) else [])]
        texts = [one.get("message") if isinstance(one, dict) else one for one in said]
        return self._clean("; ".join(text for text in texts if isinstance(text, str))) or response.reason_phrase

    def _clean(self, text: str, limit: int = 300) -> str:
        return one_line(text.replace(self._token, "***") if len(self._token) >= _SHORTEST else text, limit)


def _decoded(response: http.Response, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(response.content, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Later(f"{_origin(str(response.url))} answered with something else than asked for: {error}") from None


def _plain(headers: Any) -> Any:
    """Return headers without what says how the body was packed: it is unpacked already."""
    return [(name, value) for name, value in headers.multi_items() if name not in ("content-encoding", "content-length",
            "transfer-encoding")]  # fmt: skip


def _pause_s(response: http.Response) -> float:
    """Return how long a rate limit asks to wait: ``retry-after``, else until ``x-ratelimit-reset``, else a minute."""
    asked = _seconds(response.headers.get("retry-after", ""))
    if asked:
        return asked
    reset = _seconds(response.headers.get("x-ratelimit-reset", ""))
    if reset and response.headers.get("x-ratelimit-remaining") == "0":
        return max(1.0, reset - _now(response) + 1)
    return _SECONDARY_S


def _now(response: http.Response) -> float:
    """Return GitHub's own time in seconds since 1970: this machine's clock may be wrong."""
    try:
        return parsedate_to_datetime(response.headers["date"]).timestamp()
    except (KeyError, ValueError):
        return time.time()


def _seconds(text: str) -> float:
    return float(text) if text.isdecimal() and text.isascii() else 0.0


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}".lower()
