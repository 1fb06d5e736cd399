"""What holds for all tests of the kit."""

import signal

import pytest


@pytest.fixture(autouse=True, scope="session")
def _sigint_is_heard():
    """A test run that was started in the background has SIGINT ignored; tests of stops need it as a terminal has it."""
    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
