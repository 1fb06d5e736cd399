"""HTTP to the platform's services: through port-forwards, with a trace context of our own, every request remembered."""

import json as jsonlib
import secrets
import time
from contextlib import suppress
from typing import Any, NamedTuple

from k8s_e2e.base import http
from k8s_e2e.base.clock import now
from k8s_e2e.base.errors import ExpectationError, UsageError
from k8s_e2e.base.files import Lines
from k8s_e2e.model.profile import Profile
from k8s_e2e.model.results import RequestRecord
from k8s_e2e.platform.portforward import ForwardFailed, PortForwards

ATTEMPTS = 3  # of a GET whose connection broke; anything else is sent once
_REPEATABLE = ("GET", "HEAD")


class Reply(NamedTuple):
    """An answer. Header names are in lower case; of one that came several times the values are joined by ``, ``."""

    status: int
    headers: dict[str, str]
    body: bytes
    url: str
    traceparent: str
    trace_id: str
    duration_s: float

    def json(self) -> Any:
        """Return the body as JSON.

        Raises:
            ValueError: it is not JSON.
        """
        return jsonlib.loads(self.body)


class Unanswered(ExpectationError):
    """A request that got no (whole) answer; ``record`` says what was sent and how it ended."""

    def __init__(self, record: RequestRecord, *, hint: str = "") -> None:
        super().__init__(f"{record.service} did not answer {record.method} {record.url}: {record.error}", hint=hint)
        self.record = record


class Requester:
    """Sends requests to services by name; may be used from any thread."""

    def __init__(self, forwards: PortForwards, profile: Profile, log: Lines | None, timeout_s: float = 10.0) -> None:
        self._forwards = forwards
        self._profile = profile
        self._log = log
        self._timeout_s = timeout_s
        self._client = http.client(timeout_s=timeout_s)

    def close(self) -> None:
        """Close the client; the forwards belong to who made them."""
        self._client.close()

    def send(
        self,
        service: str,
        method: str,
        path: str,
        *,
        step: str,
        json: Any = None,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        timeout_s: float | None = None,
        trace: bool = True,
        port: int = 0,
    ) -> Reply:
        """Send one request and return its answer, whatever its status.

        A traced request carries a sampled W3C traceparent and is appended to `requests.jsonl`, answered or not. One
        with ``trace=False`` (polls, reads of the kit's own) says "not sampled" and leaves no record.
        A GET whose connection breaks is repeated (`ATTEMPTS` in all, within the deadline; the record says so): the
        forward may be on its way to another pod. Nothing else is ever sent twice.

        Args:
            service: name of the Service; its port is the profile's, or ``port``.
            method: HTTP method.
            path: path and query, beginning with a slash.
            step: id of the step, or name of the stage, that sends it.
            json: body, sent as JSON.
            body: body, sent as it is.
            headers: further headers; they win over ours.
            timeout_s: for the whole request, waiting for the forward included; default: the requester's.
            trace: whether services should record spans.
            port: port of a Service that the profile does not name.

        Raises:
            Unanswered: no connection, no answer, or half of one.
            UsageError: no such service in the profile (and no ``port``).
        """
        port = port or self._port(service)
        trace_id, span_id = secrets.token_hex(16), secrets.token_hex(8)
        traceparent = f"00-{trace_id}-{span_id}-{'01' if trace else '00'}"
        ours = {"traceparent": traceparent, "connection": "close"}
        if json is not None:
            body = jsonlib.dumps(json).encode()
            ours["content-type"] = "application/json"
        theirs = {name.lower(): value for name, value in (headers or {}).items()}
        record = RequestRecord(
            time=now(), traceparent=traceparent, trace_id=trace_id, step=step, service=service, method=method, url=path
        )
        began = time.monotonic()
        deadline = began + (self._timeout_s if timeout_s is None else timeout_s)
        answer = None
        try:
            answer = self._deliver(record, port, path, body, {**ours, **theirs}, deadline)
        finally:
            record.duration_s = round(time.monotonic() - began, 6)
            if trace and self._log:
                self._log.append(record)
        status, found, data = answer
        return Reply(status, found, data, record.url, traceparent, trace_id, record.duration_s)

    def note(self, record: RequestRecord) -> None:
        """Append a request that something else sent for us, such as a browser, to `requests.jsonl`."""
        if self._log:
            self._log.append(record)

    def _deliver(
        self,
        record: RequestRecord,
        port: int,
        path: str,
        body: bytes | None,
        headers: dict[str, str],
        deadline: float,
    ) -> tuple[int, dict[str, str], bytes]:
        attempts = ATTEMPTS if record.method in _REPEATABLE else 1
        broken = ""
        for attempt in range(1, attempts + 1):
            record.attempts = attempt
            try:
                record.url = self._forwards.url(record.service, port, timeout_s=_left(deadline)) + path
                answer = self._exchange(record, body, headers, deadline)
            except ForwardFailed as error:
                record.error = error.message
                raise Unanswered(record, hint=error.hint) from error
            except http.HTTPError as error:
                record.error = _told(error)
                late = time.monotonic() >= deadline or isinstance(error, http.TimeoutException)
                if late or attempt == attempts or not isinstance(error, http.TransportError):
                    raise Unanswered(record) from error
                broken = record.error
                time.sleep(min(0.1 * attempt, _left(deadline)))
            else:
                record.status = answer[0]
                record.error = f"repeated: {broken}" if broken else ""
                return answer
        raise AssertionError  # the last attempt returns or raises

    def _exchange(
        self, record: RequestRecord, body: bytes | None, headers: dict[str, str], deadline: float
    ) -> tuple[int, dict[str, str], bytes]:
        """Send once and read the whole body, which may take until ``deadline`` and no longer."""
        with self._client.stream(
            record.method, record.url, content=body, headers=headers, timeout=max(_left(deadline), 0.001)
        ) as response:
            pieces = []
            for piece in response.iter_bytes():
                pieces.append(piece)
                if time.monotonic() > deadline:
                    message = f"the body was still coming after {sum(map(len, pieces))} bytes"
                    raise http.ReadTimeout(message)
            return response.status_code, {k.lower(): v for k, v in response.headers.items()}, b"".join(pieces)

    def _port(self, service: str) -> int:
        with suppress(UsageError):
            return self._profile.service(service).port
        traces = self._profile.traces
        if traces and traces.service == service:
            return traces.port
        return self._profile.service(service).port


def _left(deadline: float) -> float:
    return max(deadline - time.monotonic(), 0.0)


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
