"""The pull request's comment against a GitHub on loopback: found, judged, written, and never over somebody else's."""

import json
import logging
import re
import time

import pytest

from k8s_e2e.model.settings import Settings
from k8s_e2e.report import minimal
from k8s_e2e.report.github.patience import Patience
from k8s_e2e.report.github.publish import Request, publish
from tests.unit import github_stub as gh
from tests.unit import run_builder as made

TOKEN = "ghs_secret0123456789"
OLD = "<!-- k8s-e2e -->\n<!-- run 100 attempt 1 -->\n### ❌ FAILED: an earlier run"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A failed run with what GitHub is shown of it."""
    run = made.red_crash(tmp_path_factory.mktemp("runs") / "red").write()
    minimal(run, "a note")
    return run


@pytest.fixture
def github():
    """A GitHub on loopback."""
    with gh.github() as stub:
        yield stub


class Time:
    """A clock that a pause moves on instead of taking it; ``pauses`` are those asked for."""

    def __init__(self):
        self.ahead_s, self.pauses, self.said = 0.0, [], []

    def clock(self):
        return time.monotonic() + self.ahead_s

    def sleep(self, seconds):
        self.pauses.append(seconds)
        self.ahead_s += seconds


@pytest.fixture
def told(run, github, tmp_path):
    """Return a function that publishes as a step of a workflow, and returns what became of the comment."""

    def told(*, run_id=200, attempt=1, token=TOKEN, fork=False, name="", total_s=90.0, timeout_s=5.0, actor="", **env):
        head = "somebody/shop" if fork else "octo/shop"
        event = {"pull_request": {"number": gh.PULL, "head": {"sha": "ab" * 20, "repo": {"full_name": head}},
                                  "base": {"repo": {"full_name": "octo/shop"}}}}  # fmt: skip
        (tmp_path / "event.json").write_text(json.dumps(event))
        environment = {
            "GITHUB_ACTIONS": "true", "GITHUB_TOKEN": token, "GITHUB_REPOSITORY": gh.REPOSITORY,
            "GITHUB_API_URL": github.url, "GITHUB_SERVER_URL": "https://github.com", "GITHUB_RUN_ID": str(run_id),
            "GITHUB_RUN_ATTEMPT": str(attempt), "GITHUB_EVENT_PATH": str(tmp_path / "event.json"),
            "GITHUB_EVENT_NAME": "pull_request", "GITHUB_ACTOR": actor, **env,
        }  # fmt: skip
        told.time = Time()
        patience = Patience(total_s, told.time.said.append, told.time.clock, told.time.sleep)
        settings = Settings(request_timeout_s=timeout_s)
        request = Request(name=name, artifact="e2e")
        told.done = publish(run, request, environment, settings=settings, patience=patience)
        return told.done.channels[1]

    return told


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def test_a_first_run_comments(told, github):
    """The comment has both hidden lines, the title, the run's page and the artifact's name."""
    channel = told()
    assert channel.status == "published"
    assert channel.detail.startswith(f"created: https://github.com/{gh.REPOSITORY}/pull/7#issuecomment-")
    (body,) = github.bodies()
    lines = body.split("\n")
    assert lines[:2] == ["<!-- k8s-e2e -->", "<!-- run 200 attempt 1 -->"]
    assert lines[2].startswith("### ❌ FAILED: `step users/02")
    assert "https://github.com/octo/shop/actions/runs/200/attempts/1#artifacts) `e2e`" in lines[3]
    assert "commit `ababababab`" in lines[3].lower()


def test_a_later_run_and_a_later_attempt_rewrite_it(told, github):
    """There is one comment, whose number stays and whose hidden line is that of the last to come."""
    first = told(run_id=200)
    assert told(run_id=200, attempt=2).detail == first.detail.replace("created", "updated")
    assert told(run_id=201).detail.startswith("updated")
    (body,) = github.bodies()
    assert "<!-- run 201 attempt 1 -->" in body
    assert len(github.sent("POST")) == 1


@pytest.mark.parametrize("late", [(199, 9), (200, 1)])
def test_a_late_older_run_leaves_a_newer_ones_comment(told, github, late):
    """What comes late from an older run or attempt is not written, and that is said."""
    told(run_id=200, attempt=2)
    before = github.bodies()
    channel = told(run_id=late[0], attempt=late[1])
    assert channel.status == "skipped"
    assert channel.detail.startswith("a later run has commented: https://")
    assert github.bodies() == before


def test_ours_is_found_behind_many_others(told, github):
    """The comment is looked for on every page."""
    for number in range(250):
        github.add(f"remark {number}", gh.PERSON)
    mine = github.add(OLD)
    for number in range(120):
        github.add(f"answer {number}", gh.PERSON)
    assert told().detail.startswith("updated")
    assert "run 200 attempt 1" in github.comments[mine]["body"]
    assert len([one for one in github.sent("GET") if "per_page=100" in one.path]) == 4


@pytest.mark.parametrize(
    ("body", "by"),
    [
        (OLD, gh.PERSON),
        (OLD, gh.OTHER_BOT),
        (OLD, gh.OTHER_APP),
        ("> " + OLD.replace("\n", "\n> "), gh.ACTIONS),
        ("look:\n" + OLD, gh.ACTIONS),
        (" " + OLD, gh.ACTIONS),
        (OLD.replace("k8s-e2e", "k8s-e2e kind 1.36", 1), gh.ACTIONS),
        (OLD.replace("<!-- k8s-e2e -->", "<!-- k8s-e2e-->"), gh.ACTIONS),
        ("", gh.ACTIONS),
    ],
)
def test_what_only_looks_like_ours_is_left_alone(told, github, body, by):
    """A person's or another bot's copy, a quotation, and another job's comment are never overwritten."""
    other = github.add(body, by)
    assert told().detail.startswith("created")
    assert github.comments[other]["body"] == body


def test_a_comment_without_an_account_is_left_alone(told, github):
    """The author's account may be gone, and the text of a comment empty."""
    ghost = github.add(OLD)
    github.comments[ghost] |= {"user": None, "body": None}
    assert told().detail.startswith("created")
    assert github.comments[ghost]["body"] is None


def test_a_persons_own_token_finds_the_persons_own_comment(told, github):
    """With a personal token the account decides, not the name of a bot."""
    github.tokens["github_pat_mine"] = gh.PERSON
    others = [github.add(OLD, gh.SOMEONE), github.add(OLD, gh.ACTIONS)]
    mine = github.add(OLD, gh.PERSON)
    assert told(token="github_pat_mine").detail.startswith("updated")
    assert "run 200" in github.comments[mine]["body"]
    assert all(github.comments[number]["body"] == OLD for number in others)


def test_another_apps_token_ends_up_with_one_comment(told, github):
    """Who an app is shows only in what it has written: its earlier comment is rewritten, the new one goes again."""
    github.tokens["ghs_other_app"] = gh.OTHER_APP
    theirs = github.add(OLD, gh.OTHER_BOT)
    told(token="ghs_other_app", run_id=200)
    told(token="ghs_other_app", run_id=201)
    by_app = [one for one in github.comments.values() if one["user"]["login"] == "shop-ci[bot]"]
    assert ["run 201 attempt 1" in one["body"] for one in by_app] == [True]
    assert github.comments[theirs]["body"] == OLD


def test_another_apps_token_goes_on_with_what_actions_began(told, github):
    """A workflow that changes from its own token to an app's keeps its one comment."""
    github.tokens["ghs_other_app"] = gh.OTHER_APP
    mine = github.add(OLD, gh.ACTIONS)
    assert told(token="ghs_other_app").detail.startswith("updated")
    assert "run 200" in github.comments[mine]["body"]


def test_jobs_with_names_have_a_comment_each(told, github):
    """Each job of a matrix rewrites its own."""
    for run_id in (200, 201):
        for name in ("", "kind 1.36", "kind 1.35"):
            told(run_id=run_id, name=name)
    assert [body.split("\n")[0] for body in github.bodies()] == [
        "<!-- k8s-e2e -->", "<!-- k8s-e2e kind 1.36 -->", "<!-- k8s-e2e kind 1.35 -->",
    ]  # fmt: skip
    assert all("run 201 attempt 1" in body for body in github.bodies())


def test_a_web_editors_line_ends_do_not_hide_it(told, github):
    """Saved in a browser, a comment has CRLF at the end of each line; it is ours all the same."""
    mine = github.add(OLD.replace("\n", "\r\n"))
    assert told().detail.startswith("updated")
    assert "run 200" in github.comments[mine]["body"]


def test_a_fork_is_told_and_nothing_fails(told, github):
    """A fork's token may only read: skipped, with GitHub's own words, and no warning."""
    github.tokens[TOKEN] = gh.FORK
    channel = told(fork=True)
    assert channel.status == "skipped"
    assert "fork" in channel.detail
    assert "Resource not accessible by integration" in channel.detail
    assert not [line for line in told.done.commands if line.startswith("::warning")]


def test_dependabot_is_told_too(told, github):
    """Its pull requests come from the same repository, with a token that may only read."""
    github.tokens[TOKEN] = gh.FORK
    assert told(actor="dependabot[bot]").status == "skipped"


def test_a_missing_permission_is_named(told, github):
    """A token that may not write, of a pull request that is no fork's: the permission, as a warning."""
    github.tokens[TOKEN] = gh.FORK
    channel = told()
    assert channel.status == "failed"
    assert "`permissions: {pull-requests: write}`" in channel.detail
    assert [line for line in told.done.commands if line.startswith("::warning title=k8s-e2e publish%3A comment::")]


def test_refusals_are_told_in_githubs_words(told, github):
    """A wrong token, a locked conversation, an unknown repository: one line each, and no second try."""
    assert "401: Bad credentials; GITHUB_TOKEN is not valid" in told(token="ghs_unknown").detail
    github.locked = True
    assert "403: Unable to create comment because issue is locked." in told().detail
    assert "404: Not Found" in told(GITHUB_REPOSITORY="octo/other").detail
    assert told.time.pauses == []


@pytest.mark.parametrize("limit", [1000, 700])
def test_a_text_github_finds_too_long_is_shortened(told, github, limit):
    """After a 422 for its length the next shorter form is sent, which keeps marker, title and links."""
    github.limit = limit
    channel = told()
    assert channel.detail.startswith("created")
    (body,) = github.bodies()
    assert body.startswith("<!-- k8s-e2e -->\n<!-- run 200 attempt 1 -->\n### ❌ FAILED: `step users/02")
    assert "actions/runs/200/attempts/1" in body
    assert "eft out here" in body
    assert told(run_id=201).detail.startswith("updated")


def test_a_text_that_is_never_short_enough_is_a_failure_of_its_own(told, github):
    """Where not even the title fits, that is said."""
    github.limit = 10
    channel = told()
    assert (channel.status, channel.detail) == ("failed", "even its shortest form is too long")
    assert github.bodies() == []


def test_another_422_is_no_matter_of_length(told, github):
    """A refusal of the content is told, and not tried again in a shorter form."""
    github.faults = [gh.Fault("POST", status=422, message="Validation failed, or the endpoint has been spammed.")]
    assert "spammed" in told().detail
    assert len(github.sent("POST")) == 1


@pytest.mark.parametrize("status", [500, 502, 503, 504])
@pytest.mark.parametrize("method", ["GET", "PATCH"])
def test_server_errors_are_tried_again(told, github, status, method):
    """Two failures in a row are waited out, longer the second time."""
    mine = github.add(OLD)
    github.faults = [gh.Fault(method, status=status, times=2)]
    assert told().detail.startswith("updated")
    assert told.time.pauses == [1, 2]
    assert "run 200" in github.comments[mine]["body"]


@pytest.mark.parametrize("effect", [True, False])
@pytest.mark.parametrize("cut", [True, False])
def test_a_comment_is_made_once_whatever_the_answer(told, github, effect, cut):
    """A POST that failed or broke off may have happened: it is looked for before another is sent."""
    fault = gh.Fault("POST", status=502, effect=effect, cut=cut)
    github.faults = [fault]
    assert told().status == "published"
    assert len(github.bodies()) == 1
    assert len(github.sent("POST")) == (1 if effect else 2)


def test_a_comment_that_shows_late_is_not_left_twice(told, github):
    """The first POST failed but happened, and shows only later: the second comment is taken back."""
    hidden = {}

    def hide(stub):
        hidden.update(stub.comments)
        stub.comments.clear()

    def show(stub):
        stub.comments.update(hidden)

    github.faults = [
        gh.Fault("POST", status=500, effect=True),
        gh.Fault("GET", "per_page", before=lambda stub: None),
        gh.Fault("GET", "per_page", before=hide),
        gh.Fault("GET", "per_page", before=show),
    ]
    assert told().detail.startswith("updated")
    assert len(github.bodies()) == 1
    assert [request.method for request in github.requests].count("DELETE") == 1


def test_a_cut_connection_is_tried_again(told, github):
    """Half an answer is none."""
    mine = github.add(OLD)
    github.faults = [gh.Fault("GET", "per_page", cut=True), gh.Fault("GET", f"comments/{mine}", cut=True)]
    assert told().detail.startswith("updated")


def test_something_else_than_json_is_tried_again(told, github):
    """A gateway's page with status 200 is no list of comments."""
    github.add(OLD)
    github.faults = [gh.Fault("GET", "per_page", raw=b"<html>login</html>")]
    assert told().detail.startswith("updated")


@pytest.mark.parametrize(
    ("fault", "least_s", "most_s"),
    [
        (gh.rate_limited("PATCH", retry_after="40"), 40, 40),
        (gh.rate_limited("PATCH", status=429, retry_after="40"), 40, 40),
        (gh.rate_limited("PATCH"), 60, 60),
        (gh.rate_limited("PATCH", status=429, message="Too many"), 60, 60),
        (gh.rate_limited("PATCH", message=gh.PRIMARY, x_ratelimit_remaining="0", x_ratelimit_reset="30"), 25, 35),
        (gh.rate_limited("GET", retry_after="40"), 40, 40),
    ],
)
def test_rate_limits_are_waited_out(told, github, fault, least_s, most_s):
    """As long as GitHub says: by retry-after, until the reset, else a minute."""
    mine = github.add(OLD)
    if "x-ratelimit-reset" in fault.headers:
        fault.headers["x-ratelimit-reset"] = str(int(time.time()) + 30)
    github.faults = [gh.Fault(fault.method, status=fault.status, message=fault.message, headers=dict(fault.headers))]
    assert told().detail.startswith("updated")
    assert len(told.time.pauses) == 1
    assert least_s <= told.time.pauses[0] <= most_s
    assert "run 200" in github.comments[mine]["body"]


def test_a_limit_that_lasts_longer_than_there_is_time_is_not_waited_for(told, github):
    """An hour is not waited: the comment fails at once, the reason is told, and a warning is shown."""
    github.add(OLD)
    github.faults = [gh.rate_limited("PATCH", message=gh.PRIMARY, retry_after="3600")]
    channel = told()
    assert channel.status == "failed"
    assert "limits the rate of requests" in channel.detail
    assert "the next try would be in 3600 s" in channel.detail
    assert told.time.pauses == []
    assert [line for line in told.done.commands if line.startswith("::warning")]


def test_a_github_that_stays_broken_is_given_up(told, github):
    """Every pause is within the one deadline; the last answer is told."""
    github.faults = [gh.Fault("GET", status=503, message="down", times=1000)]
    channel = told(total_s=20)
    assert channel.status == "failed"
    assert "503: down" in channel.detail
    assert sum(told.time.pauses) < 20
    assert told.time.pauses == [1, 2, 4, 8]


def test_a_github_that_is_not_there_is_given_up(told, github):
    """A refused connection is told with its address."""
    channel = told(total_s=4, GITHUB_API_URL="http://127.0.0.1:9")
    assert channel.status == "failed"
    assert "http://127.0.0.1:9 did not answer GET" in channel.detail


def test_an_answer_that_drips_is_cut_off(told, github):
    """A whole request has one deadline, however busy its line is; then it is tried again."""
    github.add(OLD)
    github.faults = [gh.Fault("GET", "per_page", pause_s=0.2)]
    assert told(timeout_s=0.5).detail.startswith("updated")
    assert told.time.pauses == [1]


def test_a_newer_run_that_comes_in_between_wins(told, github):
    """Read again right before it is written: by then a newer run has written, and it stays."""
    mine = github.add(OLD)
    newer = OLD.replace("run 100", "run 300")
    github.faults = [
        gh.Fault("GET", f"comments/{mine}", before=lambda stub: stub.comments[mine].update(body=newer)),
    ]
    assert told().detail.startswith("a later run has commented")
    assert github.comments[mine]["body"] == newer


def test_a_comment_that_is_no_longer_ours_is_left_alone(told, github):
    """Rewritten by a person in between, without the marker, it is theirs; another is made."""
    mine = github.add(OLD)
    github.faults = [gh.Fault("GET", f"comments/{mine}", before=lambda stub: stub.comments[mine].update(body="mine"))]
    assert told().detail.startswith("created")
    assert github.comments[mine]["body"] == "mine"
    assert len(github.bodies()) == 2


@pytest.mark.parametrize("method", ["GET", "PATCH"])
def test_a_comment_deleted_in_between_is_made_anew(told, github, method):
    """Whether it goes before it is read again or right before it is written."""
    mine = github.add(OLD)
    github.faults = [gh.Fault(method, f"comments/{mine}", before=lambda stub: stub.comments.pop(mine, None))]
    assert told().detail.startswith("created")
    assert ["run 200 attempt 1" in body for body in github.bodies()] == [True]


def test_notes_added_below_do_not_make_it_somebody_elses(told, github):
    """A person with the right to may write into our comment: it stays ours, and the next run rewrites it."""
    mine = github.add(OLD + "\nPlease look at this, @octocat")
    assert told().detail.startswith("updated")
    assert "Please look" not in github.comments[mine]["body"]


def test_of_two_that_comment_at_once_the_older_comment_stays(told, github):
    """Between our look and our POST another run of the same job has commented: ours goes, the other is rewritten."""
    github.faults = [gh.Fault("POST", before=lambda stub: stub.add(OLD.replace("run 100", "run 199")))]
    channel = told()
    assert channel.detail.startswith("updated")
    assert ["run 200 attempt 1" in body for body in github.bodies()] == [True]


def test_of_two_at_once_the_newer_run_stays(told, github):
    """The other one is newer: ours goes, and theirs is not touched."""
    newer = OLD.replace("run 100", "run 300")
    github.faults = [gh.Fault("POST", before=lambda stub: stub.add(newer))]
    assert told().status == "skipped"
    assert github.bodies() == [newer]


def test_duplicates_are_never_deleted_only_counted(told, github):
    """Of several of ours the oldest is rewritten; the others stay, and are mentioned."""
    numbers = [github.add(OLD) for _ in range(3)]
    channel = told()
    assert channel.detail.endswith(f"#issuecomment-{numbers[0]}; 2 more of ours are there, left as they are")
    assert [github.comments[number]["body"] == OLD for number in numbers] == [False, True, True]
    assert github.sent("DELETE") == []


def test_the_token_goes_nowhere_else(told, github, caplog):
    """A redirect to another host is not followed; one on the same host is, with the same method."""
    with gh.github() as elsewhere:
        github.faults = [gh.Fault("GET", "per_page", status=302, headers={"Location": f"{elsewhere.url}/x"})]
        channel = told()
        assert channel.status == "failed"
        assert f"points to {elsewhere.url}, which the token is not sent to" in channel.detail
        github.faults = [gh.Fault("GET", "per_page", raw=b"[]", headers={"Link": f'<{elsewhere.url}/y>; rel="next"'},
                                  status=200)]  # fmt: skip
        assert told().status == "failed"
        assert elsewhere.requests == []
    moved = f"/repositories/{gh.REPOSITORY_ID}/issues/{gh.PULL}/comments"
    github.faults = [gh.Fault("POST", status=307, headers={"Location": moved})]
    assert told().detail.startswith("created")


@pytest.mark.parametrize("status", [401, 403, 404, 422, 500])
def test_the_token_is_in_no_word_and_no_log(told, github, caplog, status):
    """Even where GitHub would repeat it; and every request carried it in its header alone."""
    caplog.set_level(logging.DEBUG)
    for method in ("GET", "POST"):
        github.faults = [gh.Fault(method, status=status, message=f"token {TOKEN} is wrong", times=9)]
        channel = told(total_s=3)
        said = " ".join([channel.detail, *told.done.commands, *told.time.said, caplog.text, repr(told.done)])
        assert TOKEN not in said
    assert all(TOKEN not in request.path + json.dumps(request.body) for request in github.requests)


@pytest.mark.parametrize("token", ["two words", "line\nbreak", "ä", "nul\x00"])
def test_a_token_that_is_none_is_not_sent(told, github, token):
    """What no token can hold is refused here, without being repeated."""
    channel = told(token=token)
    assert channel.detail == "GITHUB_TOKEN holds characters that no token has"
    assert github.requests == []


def test_a_token_is_not_sent_in_the_clear(told, github):
    """To another machine it goes by TLS or not at all."""
    channel = told(GITHUB_API_URL="http://github.example.test/api/v3")
    assert channel.status == "skipped"
    assert "no https address" in channel.detail


def test_what_was_sent_needs_no_more_than_is_granted(told, github):
    """Reading and writing comments of this pull request is all that is ever asked for, with a version and a name."""
    github.add(OLD)
    told()
    for request in github.requests:
        path = request.path.split("?")[0]
        assert re.fullmatch(r"/user|/repos/octo/shop/issues/(7/comments|comments/\d+)", path)
        assert request.headers["x-github-api-version"] == "2022-11-28"
        assert request.headers["accept"] == "application/vnd.github+json"
        assert request.headers["user-agent"] == "k8s-e2e"
