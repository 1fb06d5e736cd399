"""The export gate: traces.json is written when the traces of the run's requests are complete.

Spans reach Jaeger late (exporters and collectors batch them), so reading once loses the newest. Every request of the
kit carries a trace id that it remembers: what must be there is known, and what never comes is said in the census.
"""

import contextlib
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec

from k8s_e2e.base import clock, files
from k8s_e2e.base.errors import KitError
from k8s_e2e.base.progress import Progress
from k8s_e2e.evidence.secrets import Cleaner
from k8s_e2e.model import io
from k8s_e2e.model.evidence import Census, Traces
from k8s_e2e.model.layout import RunDir
from k8s_e2e.model.profile import Profile
from k8s_e2e.model.results import Results
from k8s_e2e.model.run import RunRecord
from k8s_e2e.model.settings import Settings
from k8s_e2e.platform.http import Requester
from k8s_e2e.traces import jaeger, sent

STABLE_POLLS = 3
POLL_S = 0.5
YOUNG_S = 5.0  # an orphan's parent may still come this long after the orphan ended
WORKERS = 8
_MARGIN_S = 5.0  # around the run's time window

Raw = dict[str, Any]


def export(
    run: RunDir,
    requester: Requester,
    profile: Profile,
    settings: Settings,
    progress: Progress,
    cleaner: Cleaner | None = None,
) -> Traces:
    """Wait until the run's traces are complete (at most ``settings.gate_timeout_s``) and write traces.json.

    Complete: the traces of all answered requests to traced services, and those they link to, have had the same spans
    for three polls, every expected service that was asked (by a request, or in a `trace` step) appears, and no span
    younger than 5 s waits for its parent. What all expected services did on their own in the run's time (reconciles,
    polls) is fetched, too.

    Raises:
        KitError: Jaeger could not be read at all.
    """
    records = sent.requests(run)
    start_us = _window_start(run, [record.time for record in records])
    ours = {sent.span_id(record) for record in records}
    reached = sent.reached(records, io.load_or(run.results, Results), profile)
    polling = _Polling(requester, profile, sent.expected(records, profile), reached, ours, start_us)
    began = time.monotonic()
    deadline = began + settings.gate_timeout_s
    polling.pull_services(jaeger.source(profile).expected)
    last = ""
    while True:
        polling.poll()
        state = polling.state()
        if state != last:
            progress(f"traces: {state or 'complete'}")
            last = state
        if not state or time.monotonic() >= deadline:
            break
        time.sleep(POLL_S)
    stable = not last
    try:
        polling.pull_services(jaeger.source(profile).expected)  # what the services did on their own meanwhile
    except KitError as error:
        progress(f"traces: the newest of what services did on their own may be missing: {error}")
    census = polling.census()
    census.waited_s = round(time.monotonic() - began, 6)
    census.stable = stable
    traces = Traces(captured_at=clock.now(), census=census, data=polling.data())
    text = msgspec.json.format(msgspec.json.encode(traces), indent=1).decode()
    files.write(run.traces, (cleaner or Cleaner()).json_text(text) + "\n")
    return traces


class _Polling:
    """The traces as they come in."""

    def __init__(
        self,
        requester: Requester,
        profile: Profile,
        expected: set[str],
        reached: set[str],
        ours: set[str],
        start_us: int,
    ) -> None:
        self._requester = requester
        self._profile = profile
        self._expected = expected
        self._awaited = [name for name in jaeger.source(profile).expected if name in reached]
        self._wanted = set(expected)  # and what they link to
        self._start_us = start_us  # of the run's time window
        self._ours = ours  # spans of the kit itself, which nobody reports
        self._found: dict[str, Raw] = {}
        self._streak: dict[str, int] = {}  # polls in a row with equally many spans
        self._polls = 0

    def pull_services(self, names: Iterable[str]) -> None:
        """Fetch what these services did since the run began."""
        end_us = int((time.time() + _MARGIN_S) * 1e6)

        def pull(service: str) -> list[Raw]:
            return jaeger.fetch_service(self._requester, self._profile, service, start_us=self._start_us, end_us=end_us)

        with ThreadPoolExecutor(WORKERS) as pool:
            for traces in pool.map(pull, names):
                for trace in traces:
                    self._take(trace["traceID"], trace)

    def poll(self) -> None:
        """Fetch again every trace that has not been the same for long enough, or waits for a parent.

        Raises:
            KitError: none of them could be read.
        """
        self._polls += 1
        if self._polls > 1:
            with contextlib.suppress(KitError):  # asked for again with the next poll
                self.pull_services(self.census().services_missing)
        waiting = sorted(
            one for one in self._wanted if self._streak.get(one, 0) < STABLE_POLLS or self._young_orphans(one)
        )
        failures: list[KitError] = []

        def fetch(trace_id: str) -> tuple[str, Raw | None]:
            try:
                return trace_id, jaeger.fetch_trace(self._requester, self._profile, trace_id)
            except KitError as error:
                failures.append(error)
                return trace_id, None

        with ThreadPoolExecutor(WORKERS) as pool:
            for trace_id, trace in pool.map(fetch, waiting):
                before = len(self._found.get(trace_id, {}).get("spans") or [])
                if trace:
                    self._take(trace_id, trace)
                now = len(self._found.get(trace_id, {}).get("spans") or [])
                same = now == before and now > 0
                self._streak[trace_id] = self._streak.get(trace_id, 0) + 1 if same else int(now > 0)
        if failures and len(failures) == len(waiting) and not self._found:
            raise failures[0]

    def state(self) -> str:
        """Say what is still waited for; nothing if all is there."""
        census = self.census()
        moving = sum(1 for one in self._wanted if self._streak.get(one, 0) < STABLE_POLLS) - len(census.missing)
        young = sum(self._young_orphans(one) for one in self._wanted)
        reasons = [
            f"{len(census.missing)} of {census.requested} traces have no span yet" if census.missing else "",
            f"no span of {', '.join(census.services_missing)} yet" if census.services_missing else "",
            f"{moving} traces may still grow" if moving > 0 else "",
            f"{young} young spans wait for their parent" if young else "",
        ]
        return "; ".join(reason for reason in reasons if reason)

    def census(self) -> Census:
        """Compare what was sent with what was found."""
        services = {
            (process or {}).get("serviceName", "")
            for trace in self._found.values()
            for process in (trace.get("processes") or {}).values()
        }
        return Census(
            requested=len(self._expected),
            found=len(self._expected & self._found.keys()),
            missing=sorted(self._expected - self._found.keys()),
            services_missing=[name for name in self._awaited if name not in services],
            orphans=sum(len(self._orphans(trace)) for trace in self._found.values()),
            polls=self._polls,
        )

    def data(self) -> list[Raw]:
        """Return all traces by start time, each span once."""
        traces = [deduplicated(trace) for trace in self._found.values()]
        return sorted(traces, key=lambda trace: (trace["spans"][0].get("startTime", 0), trace["traceID"]))

    def _take(self, trace_id: str, trace: Raw) -> None:
        known = self._found.get(trace_id)
        if trace.get("spans") and (known is None or len(trace["spans"]) >= len(known["spans"])):
            self._found[trace_id] = trace
            if trace_id in self._wanted:
                self._wanted |= linked(trace)

    def _orphans(self, trace: Raw) -> list[Raw]:
        present = {span.get("spanID") for span in trace["spans"]} | self._ours
        return [span for span in trace["spans"] if (parent := _parent(span)) and parent not in present]

    def _young_orphans(self, trace_id: str) -> int:
        if trace_id not in self._found:
            return 0
        newest_us = (time.time() - YOUNG_S) * 1e6
        orphans = self._orphans(self._found[trace_id])
        return sum(span.get("startTime", 0) + span.get("duration", 0) > newest_us for span in orphans)


def deduplicated(trace: Raw) -> Raw:
    """Return ``trace`` with each span once, its richest copy, by start time."""
    best: dict[str, Raw] = {}
    for span in trace["spans"]:
        known = best.get(span.get("spanID", ""))
        if known is None or _richness(span) > _richness(known):
            best[span.get("spanID", "")] = span
    spans = sorted(best.values(), key=lambda span: (span.get("startTime", 0), span.get("spanID", "")))
    return {**trace, "spans": spans}


def linked(trace: Raw) -> set[str]:
    """Return the ids of other traces that the spans of ``trace`` refer to."""
    return {
        reference["traceID"]
        for span in trace["spans"]
        for reference in span.get("references") or []
        if reference.get("traceID") and reference["traceID"] != trace["traceID"]
    }


def _parent(span: Raw) -> str:
    references = span.get("references") or []
    return next((str(one.get("spanID", "")) for one in references if one.get("refType") == "CHILD_OF"), "")


def _richness(span: Raw) -> tuple[int, int, float]:
    references = len(span.get("references") or [])
    return len(span.get("tags") or []) + references, len(span.get("logs") or []), span.get("duration", 0)


def _window_start(run: RunDir, times: Iterable[str]) -> int:
    """Return when the run began, in microseconds since 1970."""
    started = io.load_or(run.run_json, RunRecord).started
    known = [clock.epoch(text) for text in [*times, started] if text]
    return int((min(known, default=time.time() - 3600.0) - _MARGIN_S) * 1e6)
