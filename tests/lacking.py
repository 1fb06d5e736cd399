"""What becomes of a test that lacks a tool: skipped with the reason on somebody's machine, failed on GitHub."""

import os
from typing import NoReturn

import pytest


def lacking(reason: str) -> NoReturn:
    """Skip the test, which says why; fail it on GitHub: nobody reads what a green job skipped."""
    if os.environ.get("GITHUB_ACTIONS"):
        pytest.fail(f"{reason} (its runners have it or can build it, so this is no reason to skip)", pytrace=False)
    pytest.skip(reason)
