"""What `auto` takes, and the way forward where it takes nothing."""

import pytest

from k8s_e2e.base.errors import EnvironmentFailure
from k8s_e2e.cluster import machine
from k8s_e2e.cluster.docker import Engine
from k8s_e2e.cluster.machine import Machine, choose, instead_of_local

ANSWERS = Engine("28.2.2")
ABSENT = Engine("", "there is no docker program on PATH", client=False)
SILENT = Engine("", "Cannot connect to the Docker daemon at unix:///var/run/docker.sock.")
DENIED = Engine("", "permission denied while trying to connect to the Docker daemon socket")
EXISTING = "use a cluster that you have: `k8s-e2e run --provider existing --cluster CONTEXT`"


@pytest.mark.parametrize(
    ("this", "provider"),
    [
        (Machine("linux", root=True, docker=ANSWERS), "kind"),
        (Machine("linux", root=False, docker=ANSWERS), "kind"),
        (Machine("darwin", root=False, docker=ANSWERS), "kind"),
        (Machine("linux", root=True, docker=SILENT), "local"),
        (Machine("linux", root=True, docker=ABSENT), "local"),
    ],
)
def test_kind_where_an_engine_answers_else_local_for_root_on_linux(this: Machine, provider: str) -> None:
    """A Docker engine decides first, then root on Linux; the choice says why."""
    choice = choose(this)
    assert choice.provider == provider
    assert (this.docker.version or this.docker.problem) in choice.why


@pytest.mark.parametrize(
    ("this", "forward"),
    [
        (Machine("linux", root=False, docker=ABSENT), "run it with sudo, or install Docker, rootless Docker included"),
        (Machine("linux", root=False, docker=SILENT), "run it with sudo, or start Docker"),
        (Machine("linux", root=False, docker=DENIED), "run it with sudo, or let this user talk to the Docker engine"),
        (Machine("darwin", root=False, docker=ABSENT), "install and start Docker Desktop, or colima by `colima start`"),
        (Machine("darwin", root=True, docker=SILENT), "start Docker Desktop, or colima by `colima start`"),
        (Machine("win32", root=False, docker=ABSENT), "run it in WSL 2 with Docker"),
        (Machine("freebsd14", root=True, docker=ABSENT), EXISTING),
    ],
)
def test_where_nothing_fits_there_is_one_way_forward_each(this: Machine, forward: str) -> None:
    """The error says what each provider lacks here, its hint what to do; a cluster that one has will always do."""
    with pytest.raises(EnvironmentFailure) as caught:
        choose(this)
    assert caught.value.hint.startswith(forward)
    assert caught.value.hint.endswith(EXISTING)
    assert this.docker.problem in caught.value.message
    lacks = "root" if this.system == "linux" else "Linux"
    assert caught.value.message.endswith(f"the local provider needs {lacks}")


def test_asked_for_local_where_it_cannot_run() -> None:
    """Who asked for local is sent to kind where that works, and else the same way as `auto`."""
    assert instead_of_local(Machine("darwin", root=False, docker=ANSWERS)).startswith("use --provider kind")
    this = Machine("linux", root=False, docker=ABSENT)
    assert instead_of_local(this) == machine.way_forward(this)


def test_asked_for_kind_without_docker_as_root_on_linux() -> None:
    """Root on Linux is sent to the local provider, not to sudo."""
    assert machine.way_forward(Machine("linux", root=True, docker=SILENT)).startswith("use --provider local, or start")
