"""Where a publication stands: what GitHub Actions says of itself in the environment, and the event it was started by.

The variables are those of "Variables reference" (docs.github.com), the event's fields those of the webhook payloads
``pull_request`` and ``pull_request_target``.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from k8s_e2e.report.github.stamp import Age

API_URL = "https://api.github.com"

_REPOSITORY = re.compile(r"[A-Za-z0-9_-]+/(?!\.{1,2}$)[A-Za-z0-9_.-]+")
_PULL_REF = re.compile(r"refs/pull/([0-9]{1,18})/")
_HOST = re.compile(r"[A-Za-z0-9.-]+(?::[0-9]+)?|\[[0-9a-f:]+\](?::[0-9]+)?")
_PATH = re.compile(r"[A-Za-z0-9_./-]*")
_SCHEMES = ("http", "https")
_SHA = re.compile(r"[0-9a-f]{7,64}")
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True)
class Workflow:
    """What is known; what is absent or is not what it should be is empty or 0."""

    active: bool = False  # this is a step of a workflow
    summary: Path | None = None
    repository: str = ""
    api_url: str = API_URL
    server_url: str = ""
    age: Age = field(default_factory=Age)
    event: str = ""
    pull_request: int = 0
    fork: bool = False
    dependabot: bool = False
    commit: str = ""  # that of the pull request's branch, not of its merge
    workspace: Path | None = None
    token: str = field(default="", repr=False)

    @property
    def run_url(self) -> str:
        """The page of this attempt of this run, empty outside of a workflow."""
        if not (self.server_url and self.repository and self.age.run_id):
            return ""
        return f"{self.server_url}/{self.repository}/actions/runs/{self.age.run_id}/attempts/{self.age.attempt}"

    @property
    def takes_token(self) -> bool:
        """Whether the API is spoken to by TLS, or on this machine: nothing else is sent a token."""
        parts = urlsplit(self.api_url)
        return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK)


def workflow(env: Mapping[str, str]) -> Workflow:
    """Read the environment (`os.environ`), and the event's file."""
    event = _event(env.get("GITHUB_EVENT_PATH", ""))
    pull = _dict(event, "pull_request")
    head, base = _dict(pull, "head"), _dict(pull, "base")
    number = pull.get("number")
    ref = _PULL_REF.match(env.get("GITHUB_REF", ""))
    commit = str(head.get("sha") or env.get("GITHUB_SHA") or "")
    return Workflow(
        active=env.get("GITHUB_ACTIONS") == "true",
        summary=Path(env["GITHUB_STEP_SUMMARY"]) if env.get("GITHUB_STEP_SUMMARY") else None,
        repository=_matching(_REPOSITORY, env.get("GITHUB_REPOSITORY", "")),
        api_url=_web(env.get("GITHUB_API_URL") or API_URL),
        server_url=_web(env.get("GITHUB_SERVER_URL", "")),
        age=Age(_number(env.get("GITHUB_RUN_ID", "")), _number(env.get("GITHUB_RUN_ATTEMPT", ""))),
        event=env.get("GITHUB_EVENT_NAME", ""),
        pull_request=number if isinstance(number, int) else int(ref[1]) if ref else 0,
        fork=bool(pull) and _dict(head, "repo").get("full_name") != _dict(base, "repo").get("full_name"),
        dependabot=env.get("GITHUB_ACTOR") == "dependabot[bot]",
        commit=_matching(_SHA, commit),
        workspace=Path(env["GITHUB_WORKSPACE"]) if env.get("GITHUB_WORKSPACE") else None,
        token=env.get("GITHUB_TOKEN", "").strip(),
    )


def _event(path: str) -> dict[str, Any]:
    try:
        event = json.loads(Path(path).read_bytes()) if path else {}
    except (OSError, ValueError, RecursionError):
        return {}
    return event if isinstance(event, dict) else {}


def _dict(of: dict[str, Any], key: str) -> dict[str, Any]:
    value = of.get(key)
    return value if isinstance(value, dict) else {}


def _matching(pattern: re.Pattern[str], text: str) -> str:
    return text if pattern.fullmatch(text) else ""


def _web(url: str) -> str:
    """Return an address of a server without what could end a link or hold a password; empty where it is none."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    plain = _HOST.fullmatch(parts.netloc) and _PATH.fullmatch(parts.path)
    return f"{parts.scheme}://{parts.netloc}{parts.path}".rstrip("/") if plain and parts.scheme in _SCHEMES else ""


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 18 else 0  # noqa: PLR2004 - as in a stamp
