"""A pytest plugin that holds that our packages come from wheels: `pytest -p tests.installed`."""

import importlib.util
import sys
import sysconfig
from pathlib import Path

import pytest

PACKAGES = ("k8s_e2e", "turbo_operator", "turbo_services")


def pytest_report_header() -> list[str]:
    """Say where the packages under test are."""
    return [f"{name}: {_origin(name)}" for name in PACKAGES]


def pytest_configure() -> None:
    """Refuse to begin with a package of the checkout."""
    _check()


def pytest_sessionfinish() -> None:
    """Fail a session in which one came from there after all."""
    _check()


def _check() -> None:
    home = Path(sysconfig.get_path("purelib")).resolve()
    for name in PACKAGES:
        if home not in _origin(name).parents:
            message = f"{name} is {_origin(name)}, and not in {home}: these tests are of the installed wheels"
            raise pytest.UsageError(message)


def _origin(name: str) -> Path:
    loaded = sys.modules.get(name)
    spec = loaded.__spec__ if loaded else importlib.util.find_spec(name)
    return Path(spec.origin).resolve() if spec and spec.origin else Path("nowhere")
