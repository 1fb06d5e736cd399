"""The part of GitHub's REST API that comments of a pull request need, on loopback, with faults by script.

Written from the documentation (REST API version 2022-11-28), never checked against GitHub itself, which cannot be
reached from where this was written. What comes from where:

- routes, statuses, fields, "ordered by ascending ID": "REST API endpoints for issue comments";
- ``per_page`` (30, at most 100), ``page``, the Link header with its ``/repositories/ID`` addresses and its
  ``first prev next last``: "Using pagination in the REST API";
- 401 "Bad credentials", 404 for what a token may not see, 403 "Resource not accessible by integration", 400 "Problems
  parsing JSON", 422 "Validation Failed" with ``errors``: "Troubleshooting the REST API";
- rate limit headers; 403 or 429 with ``retry-after`` or ``x-ratelimit-remaining: 0``; a secondary limit that says
  neither: "Rate limits for the REST API";
- a request without User-Agent is refused, redirects: "Getting started with the REST API", "Best practices";
- GET /user refused to an app's installation token: "Endpoints available for GitHub App installation access tokens"
  does not list it. The login ``github-actions[bot]``, id 41898282, type Bot, is what GITHUB_TOKEN comments as;
- the limit of 65,536 characters and the words of its 422 ("Body is too long (maximum is 65536 characters)") are not
  documented: they are quoted in public bug reports of many tools. Counted here in code points.
"""

import contextlib
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

ACTIONS_APP = {"id": 15368, "slug": "github-actions", "name": "GitHub Actions"}
REPOSITORY, REPOSITORY_ID, PULL = "octo/shop", 1300192, 7
LIMIT = 65_536
DOCS = "https://docs.github.com/rest"
SECONDARY = "You have exceeded a secondary rate limit. Please wait a few minutes before you try again."
PRIMARY = "API rate limit exceeded for installation ID 4711."


@dataclass(frozen=True)
class Identity:
    """Whose token it is. An app's token cannot ask who it is; one of a fork's workflow may only read."""

    login: str
    id: int
    type: str = "User"
    app: dict[str, Any] | None = None
    writes: bool = True


ACTIONS = Identity("github-actions[bot]", 41898282, "Bot", ACTIONS_APP)
FORK = Identity("github-actions[bot]", 41898282, "Bot", ACTIONS_APP, writes=False)
OTHER_APP = Identity("shop-ci[bot]", 99887766, "Bot", {"id": 4242, "slug": "shop-ci", "name": "Shop CI"})
OTHER_BOT = Identity("renovate[bot]", 29139614, "Bot", {"id": 2740, "slug": "renovate", "name": "Renovate"})
PERSON = Identity("octocat", 583231)
SOMEONE = Identity("hubot", 480938)


@dataclass
class Fault:
    """What happens to the next ``times`` requests that match; ``effect`` says whether they are carried out first.

    ``status`` 0 keeps the true answer; ``cut`` sends half of it and closes the connection; ``before`` runs first, with
    the stub; ``pause_s`` lies between any two hundred bytes of the answer.
    """

    method: str
    path: str = ""
    status: int = 0
    message: str = "Server Error"
    headers: dict[str, str] = field(default_factory=dict)
    effect: bool = False
    cut: bool = False
    before: Callable[["GitHubStub"], None] | None = None
    pause_s: float = 0.0
    times: int = 1
    raw: bytes = b""


@dataclass
class Request:
    """One request that came in."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any


class GitHubStub:
    """One repository with one pull request. ``comments`` is its truth, ``requests`` what was asked."""

    def __init__(self) -> None:
        self.tokens: dict[str, Identity] = {"ghs_secret0123456789": ACTIONS}
        self.comments: dict[int, dict[str, Any]] = {}
        self.faults: list[Fault] = []
        self.requests: list[Request] = []
        self.limit = LIMIT
        self.locked = False
        self.url = ""
        self._next = 1_000_001
        self._lock = threading.RLock()

    def add(self, body: str, by: Identity = ACTIONS) -> int:
        """Let somebody comment; returns the id."""
        with self._lock:
            number = self._next
            self._next += 1
            user = {"login": by.login, "id": by.id, "type": by.type, "site_admin": False}
            self.comments[number] = {
                "id": number,
                "node_id": f"IC_{number}",
                "url": f"{self.url}/repos/{REPOSITORY}/issues/comments/{number}",
                "html_url": f"https://github.com/{REPOSITORY}/pull/{PULL}#issuecomment-{number}",
                "issue_url": f"{self.url}/repos/{REPOSITORY}/issues/{PULL}",
                "body": body,
                "user": user,
                "author_association": "NONE",
                "created_at": "2026-01-02T03:04:05Z",
                "updated_at": "2026-01-02T03:04:05Z",
                "performed_via_github_app": by.app,
            }
            return number

    def bodies(self) -> list[str]:
        """Return the texts of all comments, oldest first."""
        return [self.comments[number]["body"] for number in sorted(self.comments)]

    def sent(self, method: str) -> list[Request]:
        """Return the requests of one method."""
        return [request for request in self.requests if request.method == method]

    # -- what GitHub does -------------------------------------------------------------------------------------------

    def answer(self, request: Request) -> tuple[int, dict[str, str], Any]:
        """Carry a request out and return status, headers and what the body holds."""
        with self._lock:
            return self._answer(request)

    def _answer(self, request: Request) -> tuple[int, dict[str, str], Any]:
        if not request.headers.get("user-agent"):
            return self._error(403, "Request forbidden by administrative rules. Please make sure your request has a "
                               "User-Agent header")  # fmt: skip
        if request.headers.get("x-github-api-version", "2022-11-28") != "2022-11-28":
            return self._error(400, "The requested API version is not supported")
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        me = self.tokens.get(token) if kind.lower() in ("bearer", "token") else None
        if me is None:
            return self._error(401, "Bad credentials" if token else "Requires authentication")
        return self._routed(request, me)

    def _routed(self, request: Request, me: Identity) -> tuple[int, dict[str, str], Any]:
        path, query = urlsplit(request.path).path, parse_qs(urlsplit(request.path).query)
        issues = rf"/(?:repos/{REPOSITORY}|repositories/{REPOSITORY_ID})/issues"
        one = re.fullmatch(rf"{issues}/comments/(\d+)", path)
        if request.method == "GET" and path == "/user":
            if me.type == "Bot":
                return self._error(403, "Resource not accessible by integration", "users/users")
            return 200, {}, {"login": me.login, "id": me.id, "type": me.type}
        if one is not None and int(one[1]) in self.comments:
            return self._one(request, me, int(one[1]))
        if re.fullmatch(rf"{issues}/{PULL}/comments", path) and request.method in ("GET", "POST"):
            return self._list(query) if request.method == "GET" else self._create(request, me)
        return self._error(404, "Not Found")

    def _list(self, query: dict[str, list[str]]) -> tuple[int, dict[str, str], Any]:
        per_page = min(int(query.get("per_page", ["30"])[0]), 100)
        page = int(query.get("page", ["1"])[0])
        ordered = [self.comments[number] for number in sorted(self.comments)]
        last = max(1, -(-len(ordered) // per_page))
        to = {"prev": page - 1, "next": page + 1, "last": last, "first": 1}
        if page == 1:
            del to["prev"], to["first"]
        if page >= last:
            del to["next"], to["last"]
        base = f"{self.url}/repositories/{REPOSITORY_ID}/issues/{PULL}/comments?per_page={per_page}"
        links = ", ".join(f'<{base}&page={number}>; rel="{rel}"' for rel, number in to.items())
        return 200, {"Link": links} if links else {}, ordered[(page - 1) * per_page : page * per_page]

    def _create(self, request: Request, me: Identity) -> tuple[int, dict[str, str], Any]:
        if not me.writes:
            return self._error(403, "Resource not accessible by integration", "issues/comments#create-an-issue-comment")
        if self.locked:
            return self._error(403, "Unable to create comment because issue is locked.", "issues/comments")
        wrong = self._wrong(request)
        if wrong:
            return wrong
        comment = self.comments[self.add(request.body["body"], me)]
        return 201, {"Location": comment["url"]}, comment

    def _one(self, request: Request, me: Identity, number: int) -> tuple[int, dict[str, str], Any]:
        if request.method == "GET":
            return 200, {}, self.comments[number]
        if not me.writes:
            return self._error(403, "Resource not accessible by integration", "issues/comments#update-an-issue-comment")
        if request.method == "DELETE":
            del self.comments[number]
            return 204, {}, None
        if request.method != "PATCH":
            return self._error(404, "Not Found")
        wrong = self._wrong(request)
        if wrong:
            return wrong
        self.comments[number]["body"] = request.body["body"]
        return 200, {}, self.comments[number]

    def _wrong(self, request: Request) -> tuple[int, dict[str, str], Any] | None:
        if not isinstance(request.body, dict):
            return self._error(400, "Problems parsing JSON")
        body = request.body.get("body")
        if not isinstance(body, str) or not body.strip():
            return self._invalid("Body can't be blank")
        if len(body) > self.limit:
            return self._invalid(f"Body is too long (maximum is {self.limit} characters)")
        return None

    def _invalid(self, message: str) -> tuple[int, dict[str, str], Any]:
        status, headers, body = self._error(422, "Validation Failed", "issues/comments#create-an-issue-comment")
        error = {"resource": "IssueComment", "code": "unprocessable", "field": "data", "message": message}
        return status, headers, {**body, "errors": [error]}

    def _error(self, status: int, message: str, where: str = "") -> tuple[int, dict[str, str], Any]:
        docs = f"{DOCS}/{where}" if where else DOCS
        return status, {}, {"message": message, "documentation_url": docs, "status": str(status)}

    def fault_of(self, request: Request) -> Fault | None:
        """Take the fault that a request meets off the script."""
        with self._lock:
            for fault in self.faults:
                if fault.method == request.method and fault.path in request.path:
                    fault.times -= 1
                    if fault.times <= 0:
                        self.faults.remove(fault)
                    return fault
        return None


def rate_limited(method: str, *, message: str = SECONDARY, status: int = 403, times: int = 1, **headers: str) -> Fault:
    """Return the fault of a rate limit; ``headers`` with ``_`` for ``-``."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Fault(method, status=status, message=message, headers=named, times=times)


@contextlib.contextmanager
def github(stub: GitHubStub | None = None) -> Iterator[GitHubStub]:
    """Serve a stub on a free port of 127.0.0.1 for the block; ``stub.url`` is its address."""
    served = stub or GitHubStub()

    class Handler(_Handler):
        github = served

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    served.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, name="github-stub")
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    github: GitHubStub
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # headers and body in one packet

    def do_GET(self) -> None:
        raw = self.rfile.read(int(self.headers.get("content-length") or 0))
        try:
            body = json.loads(raw) if raw else None
        except ValueError:
            body = None
        request = Request(self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, body)
        stub = self.github
        stub.requests.append(request)
        fault = stub.fault_of(request) or Fault("")
        if fault.before:
            fault.before(stub)
        status, headers, told = (0, {}, None) if fault.status and not fault.effect else stub.answer(request)
        if fault.status:
            status, headers = fault.status, fault.headers
            told = {"message": fault.message, "documentation_url": DOCS, "status": str(status)}
        self._send(status, headers, fault.raw or (b"" if told is None else json.dumps(told).encode()), fault)

    do_POST = do_PATCH = do_DELETE = do_PUT = do_GET  # noqa: N815 - named by http.server

    def _send(self, status: int, headers: dict[str, str], body: bytes, fault: Fault) -> None:
        limits = {"x-ratelimit-limit": "1000", "x-ratelimit-remaining": "987", "x-ratelimit-resource": "core",
                  "x-ratelimit-reset": str(int(time.time()) + 3600), "x-ratelimit-used": "13"}  # fmt: skip
        self.send_response(status)
        content = {"Content-Type": "application/json; charset=utf-8", "Content-Length": str(len(body))}
        for name, value in {**content, **limits, **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if fault.cut:
            body = body[: len(body) // 2]
            self.close_connection = True
        with contextlib.suppress(OSError):
            step = 200 if fault.pause_s else len(body) or 1
            for start in range(0, len(body), step):
                self.wfile.write(body[start : start + step])
                self.wfile.flush()
                time.sleep(fault.pause_s)

    def log_message(self, *args: Any) -> None:
        """Say nothing."""
