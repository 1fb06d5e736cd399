"""System packages: said before installed, asked for where they may not be."""

import pytest

from k8s_e2e.base.errors import EnvironmentFailure
from k8s_e2e.base.progress import silent
from k8s_e2e.cluster import system_packages
from k8s_e2e.model.settings import Settings


def test_nothing_happens_when_all_is_there():
    """Programs on the PATH ask for no package."""
    system_packages.ensure({"sh": "dash"}, Settings(no_install=True), silent)


def test_a_refusal_names_the_packages_and_the_command():
    """With no_install the error holds the exact command that mends it."""
    with pytest.raises(EnvironmentFailure, match="system packages are missing: no-such-package") as caught:
        system_packages.ensure({"no-such-program": "no-such-package"}, Settings(no_install=True), silent)
    assert caught.value.hint.endswith("apt-get install -y --no-install-recommends no-such-package")
