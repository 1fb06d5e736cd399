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


def pytest_terminal_summary(terminalreporter):
    """Tell each first failure: what passes at the second try is a defect all the same, of a test or of the product."""
    failed_once = terminalreporter.stats.get("rerun", [])
    if not failed_once:
        return
    terminalreporter.section("failed once and ran again", sep="=", yellow=True)
    for report in failed_once:
        terminalreporter.line(f"{report.nodeid} ({report.when})")
        terminalreporter.line(report.longreprtext)
