"""Waits: what counts as right, what ends them, and what they say."""

import time

import pytest

from k8s_e2e.base.progress import silent
from k8s_e2e.scenarios.waiting import Look, wait


def looks(rights):
    """Return a look that sees these one after the other (+ is right), the last one for ever."""
    seen = list(rights)

    def look():
        sign = seen.pop(0) if len(seen) > 1 else seen[0]
        return Look(right=sign == "+", state=sign)

    return look


def test_one_right_look_is_not_enough():
    """A state that passes by is not accepted: two looks in a row must agree."""
    ended = wait(looks("+-+-"), timeout_s=0.4, interval_s=0.02, progress=silent)
    assert (ended.right, ended.last.state) == (False, "-")


def test_two_right_looks_in_a_row_are_enough():
    """The second look comes a moment after the first, not at once."""
    began = time.monotonic()
    ended = wait(looks("-+"), timeout_s=5, interval_s=0.02, progress=silent)
    assert (ended.right, ended.looks) == (True, 3)
    assert time.monotonic() - began >= 0.1


def test_holding_begins_anew_when_it_breaks():
    """`for` asks for an unbroken stretch."""
    began = time.monotonic()
    ended = wait(looks("++-+"), timeout_s=5, hold_s=0.4, interval_s=0.1, progress=silent)
    assert ended.right
    assert time.monotonic() - began >= 0.6


def test_a_hold_may_outlast_the_timeout_of_its_beginning():
    """The timeout counts until the first right look."""
    assert wait(looks("+"), timeout_s=0.1, hold_s=0.4, interval_s=0.1, progress=silent).right


def test_time_runs_out_with_the_last_state():
    """A wait that ends in vain says what it saw last, and looked more than once."""
    ended = wait(looks("-"), timeout_s=0.2, interval_s=0.05, progress=silent)
    assert (ended.right, ended.last.state, ended.looks > 2) == (False, "-", True)
    assert 0.2 <= ended.waited_s < 1


def test_a_timeout_of_zero_looks_once():
    """`timeout: 0` asks for what is so now."""
    assert wait(looks("-"), timeout_s=0, progress=silent).looks == 1
    assert wait(looks("+"), timeout_s=0, progress=silent).looks == 2


def test_a_hopeless_look_ends_the_wait_at_once():
    """Nobody waits for what cannot become right."""
    ended = wait(lambda: Look(right=False, state="s", hopeless="never"), timeout_s=30, progress=silent)
    assert (ended.last.hopeless, ended.looks) == ("never", 1)


def test_the_outlook_is_asked_while_waiting():
    """A state that is hopeless by other evidence ends the wait, too."""
    asked = []

    def hopeless(look):
        asked.append(look.state)
        return "image cannot be pulled" if len(asked) == 2 else ""

    ended = wait(looks("-"), timeout_s=30, interval_s=0.2, hopeless=hopeless, progress=silent)
    assert ended.last.hopeless == "image cannot be pulled"
    assert ended.waited_s < 10


def test_each_new_state_is_told_once():
    """Progress hears a state when it changes, not with every look."""
    told = []
    wait(looks("-"), timeout_s=0.2, interval_s=0.02, progress=told.append)
    assert told == ["-"]


@pytest.mark.parametrize("hold_s", [0.0, 0.3])
def test_a_pause_that_returns_early_makes_for_an_early_look(hold_s):
    """A watch that rings does not cost the interval."""
    began = time.monotonic()
    ended = wait(
        looks("--+"),
        timeout_s=30,
        hold_s=hold_s,
        interval_s=10,
        pause=lambda longest_s: time.sleep(min(longest_s, 0.01)),
        progress=silent,
    )
    assert ended.right
    assert time.monotonic() - began < 2
