"""Asks the builder for its graphs."""

import base64
import time
from urllib.parse import unquote

import urllib3
from urllib3.util import Url, parse_url

from turbo_operator.builderanswer import Answer, PollError, read_answer
from turbo_operator.telemetry import unsampled_headers

_CONNECT_TIMEOUT_S = 3.0
_GRACE_S = 10.0
"""An answer may begin this much later than the wait that was asked for, and take so long then."""
_LARGEST_ANSWER = 64 * 1024 * 1024
_CHUNK = 1024 * 1024


class BuilderClient:
    """`GET /v1/graphs` of one builder."""

    def __init__(self, url: str) -> None:
        parts = parse_url(f"{url}/v1/graphs")
        # Sent as a header, so that no message with the URL gives them away.
        secret = base64.b64encode(unquote(parts.auth).encode()).decode() if parts.auth else ""
        self._credentials = {"Authorization": f"Basic {secret}"} if secret else {}
        self._url = Url(parts.scheme, None, parts.host, parts.port, parts.path, parts.query).url
        self._http = urllib3.PoolManager(retries=False, maxsize=2)

    def ask(self, known_etag: str, wait_s: int) -> Answer | None:
        """The builder's answer; None for "as before".

        Args:
            known_etag: Of the answer that is known; empty for an answer in any case.
            wait_s: How long the builder may hold an answer that is as before.

        Raises:
            PollError: no usable answer.
        """
        headers = {"Accept": "application/json", **self._credentials, **unsampled_headers()}
        if known_etag:
            headers["If-None-Match"] = known_etag
        if wait_s:
            headers["Prefer"] = f"wait={wait_s}"
        timeout = urllib3.Timeout(connect=_CONNECT_TIMEOUT_S, read=wait_s + _GRACE_S)
        try:
            response = self._http.request("GET", self._url, headers=headers, timeout=timeout, preload_content=False)
            try:
                body = self._body(response)
            except BaseException:
                response.close()
                raise
            response.release_conn()
        except urllib3.exceptions.HTTPError as error:
            raise PollError(f"GET {self._url}: {error}") from error
        if response.status == 304:  # noqa: PLR2004 - Not Modified
            return None
        if response.status != 200:  # noqa: PLR2004 - OK
            raise PollError(f"GET {self._url}: {response.status} {body[:200].decode(errors='replace')}")
        return read_answer(body, response.headers.get("ETag", ""))

    def _body(self, response: urllib3.BaseHTTPResponse) -> bytes:
        """All of it, unless it is too large or comes too slowly: a timeout of the transport is one of each read."""
        ends_at = time.monotonic() + _GRACE_S
        body = bytearray()
        while chunk := response.read1(_CHUNK):
            body += chunk
            if len(body) > _LARGEST_ANSWER:
                raise PollError(f"GET {self._url}: the answer is larger than {_LARGEST_ANSWER} bytes")
            if time.monotonic() > ends_at:
                raise PollError(f"GET {self._url}: the answer is not complete after {_GRACE_S:.0f} s")
        return bytes(body)
