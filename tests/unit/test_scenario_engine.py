"""Running scenarios against a real HTTP server on loopback: results, cleanup, interruption, redaction, traces."""

import contextlib
import http.server
import json
import multiprocessing
import os
import re
import signal
import threading
import time
from pathlib import Path

import msgspec
import pytest

from k8s_e2e.base.files import Lines
from k8s_e2e.base.wait import Pending, wait_for
from k8s_e2e.cluster.provider import Cluster
from k8s_e2e.model.layout import RunDir
from k8s_e2e.model.profile import Profile, ServicePort, Station, StationRequest, TraceSource
from k8s_e2e.model.results import Results
from k8s_e2e.model.settings import Settings
from k8s_e2e.notebooks import runner
from k8s_e2e.platform.http import Requester
from k8s_e2e.scenarios import engine, loader

TOKEN = "hunter2hunter2"


class Handler(http.server.BaseHTTPRequestHandler):
    """A small service: things are made, listed and deleted; a trace store that knows one trace."""

    def do_POST(self):
        """Make a thing."""
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.things[body["name"]] = body
        self.answer(201, {"id": body["name"], "echo": body})

    def do_GET(self):
        """Show one thing, all of them, a countdown, or the trace of the last POST."""
        self.server.traceparents.append(self.headers["traceparent"])
        if self.path.startswith("/api/traces/"):
            self.answer(200, {"data": [self.server.trace(self.path.rpartition("/")[2])]})
        elif self.path == "/countdown":
            self.server.countdown -= 1
            self.answer(200, {"left": max(self.server.countdown, 0), "phase": "Failed"})
        elif self.path == "/things":
            self.answer(200, {"things": list(self.server.things.values())})
        elif self.path == "/text":
            self.answer(200, f"password={TOKEN}")
        elif (thing := self.server.things.get(self.path.removeprefix("/things/"))) is not None:
            self.answer(200, thing)
        else:
            self.answer(404, {"error": {"code": "not_found", "message": f"there is no {self.path}"}})

    def do_DELETE(self):
        """Delete a thing."""
        self.server.things.pop(self.path.removeprefix("/things/"), None)
        self.answer(204, None)

    def answer(self, status, value):
        """Send a value as JSON."""
        self.send_response(status)
        self.end_headers()
        if status != 204:
            self.wfile.write(json.dumps(value).encode())

    def log_message(self, *_):
        """Stay quiet."""


class Server(http.server.ThreadingHTTPServer):
    """Has what the handler remembers."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.things, self.countdown, self.traceparents = {}, 5, []
        self.services, self.orphan = ["web"], False

    def trace(self, trace_id):
        """Return a trace with one span a service, each the child of the one before, the first of the kit's request."""
        parent = "f" * 16 if self.orphan else self.sent_span(trace_id)
        spans, processes = [], {}
        for number, service in enumerate(self.services):
            processes[f"p{number}"] = {"serviceName": service}
            spans.append(
                {
                    "spanID": f"{number:016x}",
                    "operationName": "op",
                    "processID": f"p{number}",
                    "references": [{"refType": "CHILD_OF", "spanID": parent}],
                    "tags": [{"key": "error", "value": service == "broken"}],
                }
            )
            parent = f"{number:016x}"
        return {"traceID": trace_id, "spans": spans, "processes": processes}

    def sent_span(self, trace_id):
        """Return the span id that the kit sent with a trace id."""
        return next(text.split("-")[2] for text in self.traceparents if trace_id in text)


@pytest.fixture
def server():
    """The service, listening on loopback."""
    with Server() as running:
        threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True).start()
        yield running
        running.shutdown()


class Forwards:
    """Stands in for port-forwards: both services are the one server."""

    def __init__(self, port):
        self.port = port

    def url(self, service, port, *, timeout_s=None):
        """Return the server's address."""
        return f"http://127.0.0.1:{self.port}"


@pytest.fixture
def play(server, tmp_path):
    """Return a function that runs the text of a scenario and returns its results as they are on disk."""
    profile = Profile(
        root=tmp_path,
        name="p",
        overlay="o",
        namespace="n",
        services=(ServicePort(name="web", port=80),),
        traces=TraceSource(service="jaeger"),
        chain=(
            Station(name="made", http=StationRequest(service="web", path="/things"), ok="things"),
            Station(
                name="named", http=StationRequest(service="web", path="/things/${thing}"), ok="name", seen="error.code"
            ),
            Station(name="never", http=StationRequest(service="web", path="/${unknown}"), ok="x"),
        ),
    )
    run = RunDir(tmp_path / "run")
    lines = Lines(run.requests)
    forwards = Forwards(server.server_port)
    context = engine.Context(
        kube=None,
        requester=Requester(forwards, profile, lines),
        forwards=forwards,
        kubectl=Path("/nowhere/kubectl"),
        cluster=Cluster(
            name="c", provider="local", kubeconfig=Path("/nowhere/config"), kubectl=Path("/nowhere/kubectl")
        ),
        namespace="n",
        profile=profile,
        run=run,
        run_id="run-1",
        settings=Settings(step_timeout_s=0.5, gate_timeout_s=1.0),
    )

    def play(*texts, progress=lambda _: None):
        paths = [tmp_path / f"{name}.yaml" for name, _ in zip(["one", "two"], texts, strict=False)]
        for path, text in zip(paths, texts, strict=True):
            path.write_text(f"name: {path.stem}\n{text}")
        try:
            engine.run(loader.load([str(path) for path in paths], profile), context, progress)
        finally:
            play.results = msgspec.json.decode(run.results.read_bytes(), type=Results)
        return play.results

    yield play
    lines.close()


def outcomes(steps):
    """Return name and status of each step."""
    return [(step.name, step.status) for step in steps]


MAKE = """
  - name: make
    http: {service: web, method: POST, path: /things, json: {name: "t-${run.id}", size: 3}}
    expect: {status: 201, json: {echo: {size: 3}}}
    capture: {thing: id, size: echo.size}
"""


TRACE = """steps:
  - {name: list, http: {service: web, path: /things}}
  - trace: {of: list, services: [web, store], errors: 0}
"""


def test_captured_values_reach_later_steps_with_their_type(play, server):
    """A capture is JSON; `${size}` alone is a number again, inside text it is text."""
    results = play(
        f"steps:{MAKE}"
        '  - http: {service: web, method: POST, path: /things, json: {name: "again ${size}", size: "${size}"}}\n'
        "  - http: {service: web, path: '/things/${thing}'}\n    expect: {json: {name: t-run-1}, where: size == `3`}\n"
    )
    (scenario,) = results.scenarios
    assert [step.status for step in scenario.steps] == ["passed"] * 3
    assert server.things["again 3"]["size"] == 3
    assert scenario.captures == {"thing": "t-run-1", "size": 3}
    assert (results.total, results.passed, results.failed) == (3, 3, 0)


def test_each_request_leaves_its_trace_and_its_line(play, tmp_path):
    """A step names its trace ids and the lines of requests.jsonl that it wrote."""
    (step,) = play(f"steps:{MAKE}").scenarios[0].steps
    (line,) = (tmp_path / "run/requests.jsonl").read_text().splitlines()
    assert step.evidence == ["requests.jsonl#L1"]
    assert step.trace_ids == [json.loads(line)["trace_id"]]
    assert json.loads(line)["step"] == "one/01"
    assert step.source.endswith("one.yaml:3")


def test_a_failed_step_ends_its_steps_but_never_its_cleanup(play, server):
    """What comes after a failure is skipped and says so; cleanup runs in order, past its own failures."""
    results = play(
        f"steps:{MAKE}"
        "  - name: wrong\n    http: {service: web, path: '/things/${thing}'}\n    expect: {json: {size: 4}}\n"
        "    capture: {later: name}\n"
        "  - name: never\n    http: {service: web, path: /things}\n"
        "cleanup:\n"
        "  - {name: fails, http: {service: web, path: /nothing}}\n"
        "  - {name: unknown, http: {service: web, path: '/${later}'}}\n"
        "  - {name: removes, http: {service: web, method: DELETE, path: '/things/${thing}'}}\n"
    )
    (scenario,) = results.scenarios
    assert outcomes(scenario.steps) == [("make", "passed"), ("wrong", "failed"), ("never", "skipped")]
    assert outcomes(scenario.cleanup) == [("fails", "failed"), ("unknown", "skipped"), ("removes", "passed")]
    assert scenario.cleanup[1].message == "not run: ${later} was never captured"
    assert server.things == {}
    assert scenario.status == "failed"
    wrong = scenario.steps[1]
    assert wrong.message.startswith("size is 3, expected 4; the reply was 200 {")
    assert "-  size: 4\n+  size: 3" in wrong.diff
    assert scenario.steps[2].message == "not run: step one/02 failed"


def test_the_next_scenario_runs_after_one_that_failed(play):
    """A scenario's failure is its own; the run's first failure is found."""
    results = play("steps:\n  - http: {service: web, path: /nothing}\n", f"steps:{MAKE}")
    assert [(each.name, each.status) for each in results.scenarios] == [("one", "failed"), ("two", "passed")]
    assert results.first_failure()[1].message.startswith("status is 404, expected 2xx; the reply was 404")


def test_a_refusal_that_was_expected_is_a_pass_and_anything_else_a_failure(play):
    """`expect_failure` wants its text, and wants a failure."""
    missing = "http: {service: web, path: /missing}"
    results = play(f"steps:\n  - {{{missing}, expect_failure: there is no /missing}}\n")
    assert results.scenarios[0].steps[0].status == "passed"
    results = play(f"steps:\n  - {{{missing}, expect_failure: quota}}\n")
    assert results.scenarios[0].steps[0].message.startswith("failed, but not with 'quota': status is 404")
    results = play("steps:\n  - {http: {service: web, path: /things}, expect_failure: quota}\n")
    assert results.scenarios[0].steps[0].message.startswith("it was not refused")


def test_a_wait_ends_when_two_replies_in_a_row_are_right(play, server):
    """Polls are untraced, the first and the confirming one are traced."""
    results = play(
        "steps:\n  - wait: {http: {service: web, path: /countdown}, until: left == `0`, timeout: 10s}\n"
        "    fail_fast: false\n"  # there is no cluster here to look for lost pods in
    )
    (step,) = results.scenarios[0].steps
    assert (step.status, step.attempts) == ("passed", 6)
    assert len(step.trace_ids) == 2
    assert [text[-2:] for text in server.traceparents] == ["01", "00", "00", "00", "00", "01"]


def test_a_wait_in_vain_says_what_it_waited_for_what_it_saw_and_where_it_got_stuck(play):
    """The chain of the profile is asked; a station whose names are unknown is left out."""
    results = play(
        "vars: {thing: lost}\n"
        "steps:\n  - http: {service: web, method: POST, path: /things, json: {name: a}}\n"
        "  - name: it runs\n    wait: {http: {service: web, path: /things/lost}, until: running, timeout: 300ms, "
        "show: error.message}\n"
    )
    step = results.scenarios[0].steps[1]
    assert step.status == "failed"
    assert step.stuck_at == "named: web says not_found (passed: made)"
    assert step.last_seen == "404 there is no /things/lost"
    expected = (
        "waited 0.3 s for running at GET web/things/lost; last seen: 404 there is no /things/lost; stuck at named"
    )
    assert step.message.startswith(expected)


def test_a_wait_whose_unless_is_true_ends_at_once(play):
    """A phase that says Failed is not waited for, unless fail_fast is off."""
    wait = "wait: {http: {service: web, path: /countdown}, until: left == `-1`, unless: phase == 'Failed', timeout: 1s}"
    (step,) = play(f"steps:\n  - {wait}\n").scenarios[0].steps
    assert step.hopeless == "phase == 'Failed'"
    assert step.attempts == 1
    (step,) = play(f"steps:\n  - {{{wait}, fail_fast: false}}\n").scenarios[0].steps
    assert (step.hopeless, step.attempts > 2) == ("", True)


def test_a_wait_can_be_for_a_refusal(play):
    """`expect: {status: 404}` waits until something is gone."""
    text = "steps:\n  - wait: {http: {service: web, path: /things/a}, expect: {status: 404}}\n"
    assert play(text).scenarios[0].steps[0].status == "passed"


def test_a_capture_that_finds_nothing_fails_its_step(play):
    """A later step must not run on an empty value."""
    text = "steps:\n  - {http: {service: web, path: /things}, capture: {id: 'things[0].id'}}\n"
    assert "capture id: things[0].id finds nothing in the reply" in play(text).scenarios[0].steps[0].message


def test_secrets_in_replies_do_not_reach_the_results(play, tmp_path):
    """What looks like a secret is redacted in every text of a result."""
    play("steps:\n  - {name: leak, http: {service: web, path: /text}, expect: {json: {a: 1}}}\n")
    assert TOKEN not in (tmp_path / "run/k8s-e2e-results.json").read_text()
    assert "[redacted:" in play.results.scenarios[0].steps[0].message


def test_a_script_gets_captures_as_variables_and_gives_json_back(play):
    """Values go in by the environment, never into the shell's text."""
    results = play(
        f"steps:{MAKE}"
        '  - script: {run: \'printf "{\\"n\\": \\"$thing/$OWN\\"}"\', env: {OWN: "$(touch x) ${size}"}}\n'
        "    expect: {where: n}\n    capture: {n: n}\n"
        "  - {script: {run: 'echo bad >&2; exit 3'}, expect: {exit_code: 3}}\n"
        "  - {script: {run: 'echo bad >&2; exit 3'}}\n"
    )
    steps = results.scenarios[0].steps
    assert results.scenarios[0].captures["n"] == "t-run-1/$(touch x) 3"
    assert [step.status for step in steps] == ["passed", "passed", "passed", "failed"]
    assert steps[3].message == "the script exited with 3, expected 0: bad"


def test_a_script_that_a_signal_ended_has_a_shells_exit_code(play):
    """128 and the signal's number; signals are for the script as any program finds them, none ignored."""
    one = "steps:\n"
    one += "  - {script: {run: 'kill -KILL $$'}, timeout: 30s, expect: {exit_code: 137}}\n"
    one += "  - {script: {run: 'yes | head -n 1; kill -PIPE $$'}, timeout: 30s, expect: {exit_code: 141, stdout: y}}\n"
    one += "  - {script: {run: 'kill -INT $$'}, timeout: 30s, expect: {exit_code: 130}}\n"
    steps = play(one).scenarios[0].steps
    assert [step.message for step in steps if step.status != "passed"] == []


def test_a_script_that_does_not_end_is_ended(play):
    """A step has a deadline, and says that it passed."""
    (step,) = play("steps:\n  - {script: {run: sleep 60}, timeout: 200ms}\n").scenarios[0].steps
    assert "did not end within 0.2 s" in step.message
    assert step.duration_s < 5


def test_a_script_does_not_outlive_the_run(play, tmp_path):
    """When what runs the scenarios is killed, a script step's shell and what that has started end, too."""
    noted, fresh = tmp_path / "noted", tmp_path / "fresh"
    script = f"sleep 600 & echo $$ $! > {fresh}; mv {fresh} {noted}; wait"
    text = f"steps:\n  - {{script: {{run: '{script}'}}, timeout: 600s}}\n"
    child = multiprocessing.get_context("fork").Process(target=play, args=(text,))
    child.start()
    try:
        wait_for("the script's start", lambda: noted.exists() or Pending("not yet"), timeout_s=60)
        pids = [int(word) for word in noted.read_text().split()]
        child.kill()
        wait_for("the end of all", lambda: not any(map(_runs, pids)) or Pending(f"{pids} run"), timeout_s=30)
    finally:
        child.kill()
        child.join()
        for pid in pids if noted.exists() else []:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _runs(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_trace_step_passes_when_all_services_are_in_one_connected_tree(play, server):
    """Spans of each service, none without its parent; the kit's own span, which nobody reports, is not missed."""
    server.services = ["web", "store"]
    step = play(TRACE).scenarios[0].steps[1]
    assert (step.status, step.message) == ("passed", "2 spans of store, web")


@pytest.mark.parametrize(
    ("services", "orphan", "words"),
    [
        (["web"], False, "no span of store (there are web)"),
        (["web", "store"], True, "1 spans without their parent: web: op"),
        (["web", "store", "broken"], False, "1 spans are errors, expected 0: broken: op"),
        ([], False, "no span of it has arrived"),
    ],
)
def test_a_trace_step_that_waits_in_vain_says_what_the_trace_lacks(play, server, services, orphan, words):
    """A missing service, a hole in the tree, and an error are told apart."""
    server.services, server.orphan = services, orphan
    step = play(TRACE).scenarios[0].steps[1]
    assert step.status == "failed"
    assert words in step.message


@pytest.fixture
def interruptible():
    """Ctrl-C as in a terminal: a shell that begins the tests in its background has SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_after_its_cleanup_and_all_is_saved(play, server, signum):
    """The step under way is cut, cleanup still runs, the results say what was not run, the caller hears of it."""
    server.countdown = 10**9
    began = time.monotonic()
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signum))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        play(
            f"steps:{MAKE}"
            "  - {name: long, fail_fast: false, "
            "wait: {http: {service: web, path: /countdown}, until: left == `0`, timeout: 60s}}\n"
            "  - {name: after, http: {service: web, path: /things}}\n"
            "cleanup:\n  - {name: remove, http: {service: web, method: DELETE, path: '/things/${thing}'}}\n"
        )
    assert time.monotonic() - began < 30
    (scenario,) = play.results.scenarios
    assert outcomes(scenario.steps) == [("make", "passed"), ("long", "skipped"), ("after", "skipped")]
    assert scenario.steps[1].message == "not run to its end: stopped by a signal"
    assert outcomes(scenario.cleanup) == [("remove", "passed")]
    assert server.things == {}
    assert scenario.status == "failed"


@pytest.mark.usefixtures("interruptible")
def test_a_cleanup_that_takes_too_long_after_a_signal_is_told(play):
    """It is cut while there is time left to write so: the notebook's kernel is killed a second later."""
    assert engine.INTERRUPTED_CLEANUP_S + 1.0 <= runner.GRACE_S
    with pytest.raises(KeyboardInterrupt):
        play(
            f"steps:\n  - {{name: stop, script: {{run: 'kill -TERM {os.getpid()}; sleep 60'}}, timeout: 60s}}\n"
            "cleanup:\n  - {name: long, script: {run: sleep 60}, timeout: 60s}\n"
            "  - {name: late, script: {run: 'true'}}\n"
        )
    long, late = play.results.scenarios[0].cleanup
    assert re.fullmatch(r"the script: .* did not end within (1\.\d+|2) s", long.message)
    assert late.message == "not run: no time left"


def test_results_are_on_disk_after_every_step(play, tmp_path):
    """Whoever reads the run directory in mid-run sees all steps that have ended."""
    seen = []

    def progress(text):
        if text.startswith("one/"):
            found = msgspec.json.decode((tmp_path / "run/k8s-e2e-results.json").read_bytes(), type=Results)
            seen.append(len(found.scenarios[0].steps) if found.scenarios else 0)

    play(
        f"steps:{MAKE}  - http: {{service: web, path: /things}}\n  - http: {{service: web, path: /things}}\n",
        progress=progress,
    )
    assert seen == [0, 1, 1, 2, 2, 3]  # when a step begins, and when it has ended


def test_the_console_says_how_each_step_ended(play):
    """A line when a step begins, the states of a wait under the step's id, and its result with its duration."""
    said = []
    play("steps:\n  - {http: {service: web, path: /nowhere}, name: look}\n", progress=said.append)
    assert said[0] == "one/01 look"
    assert re.match(r"one/01 look: FAILED in \d+\.\d s: status is 404", said[1])
    said.clear()
    step = "{wait: {http: {service: web, path: /nowhere}, expect: {status: 200}}, name: look, timeout: 300ms}"
    play(f"steps:\n  - {step}\n", progress=said.append)
    assert said[1].startswith("one/01: 404")


def test_a_step_without_an_answer_says_so(play, server):
    """No connection is a failed step, not a crash."""
    server.shutdown()
    server.server_close()
    (step,) = play("steps:\n  - http: {service: web, path: /things}\n").scenarios[0].steps
    assert step.status == "failed"
    assert step.message.startswith("web did not answer GET http://127.0.0.1:")


def test_a_defect_in_a_step_fails_that_step_only(play):
    """An internal error is told as one; what was seen before it is kept."""
    text = f"steps:{MAKE}  - assert: {{apiVersion: v1, kind: Pod, metadata: {{name: a}}}}\n"
    steps = play(text).scenarios[0].steps
    assert steps[0].status == "passed"
    assert steps[1].message.startswith("internal error: AttributeError")
