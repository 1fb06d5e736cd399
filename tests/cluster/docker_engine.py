"""A real Docker engine of the tests' own: Debian's, unpacked into the cache, in namespaces that end with it.

Its sockets, images, bridge, packet filter and control groups are its own: nothing is installed, and neither the host's
network nor another engine on the machine is touched. When it is killed, or we are, the kernel takes all of it away but
a directory and empty control groups, which `DockerEngine` removes.
"""

import contextlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from k8s_e2e.base import process
from k8s_e2e.base.lock import locked
from k8s_e2e.base.wait import Pending, wait_for
from k8s_e2e.cluster import assets, debian
from k8s_e2e.cluster.bundles import Bundle, GoBuild
from k8s_e2e.cluster.local.cgroups import Cgroup
from k8s_e2e.model.settings import Settings

NEWEST = Bundle(
    name="docker",
    provides={name: f"bin/{name}" for name in ("docker", "dockerd", "buildx")},
    versions={"docker": "29.7.2", "dockerd": "2.0.0-beta.24", "buildx": "0.38.2"},  # dockerd's of Docker 29
    build=GoBuild(
        module="docker",
        within=Path(__file__).resolve().parents[1] / "tools",
        output="bin/",
        package="tool",
        ldflags="-X github.com/docker/cli/cli/version.Version=29.7.2",
        usual_minutes=4,
    ),
)
"""What GitHub's runners have: a client that builds with buildx alone, and an engine that keeps images in containerd."""
_PACKAGES = ("docker.io", "slirp4netns", "libslirp0")
_START_S = 60.0
_GONE_S = 10.0

# PID 1 of the engine's namespaces: a shell, because it has to wait for whatever loses its parent.
_INIT = """
mount -t tmpfs tmpfs /run
ip link set lo up
dockerd --host "unix://$1/docker.sock" --data-root "$1/data" --exec-root "$1/exec" --pidfile "$1/dockerd.pid" \\
    --cgroup-parent "$2" --userland-proxy=false $3 &
wait
"""

# runc where this machine has not all capabilities: privileged containers, as kind's nodes are, get those that it has.
_RUNC = """\
#!{python} -IS
import json, os, pathlib, sys
words = dict(zip(sys.argv, sys.argv[1:]))
asked = words.get("--bundle", "") + "/config.json" if "create" in sys.argv else words.get("--process")
if asked:
    spec = json.loads(pathlib.Path(asked).read_text())
    granted = spec.get("process", spec).get("capabilities") or {{}}
    granted.update({{kind: [name for name in names or () if name not in {lacking}] for kind, names in granted.items()}})
    pathlib.Path(asked).write_text(json.dumps(spec))
os.execv({runc!r}, [{runc!r}, *sys.argv[1:]])
"""


class DockerEngine:
    """One engine, while the ``with`` block lasts; `environment` is what a client needs to talk to it.

    ``newest``: with the programs of `NEWEST` (built, if need be) instead of Debian's 20.10, which has no buildx.
    `pid` is the first process in its namespaces, `buildx` where its client has that plugin, `log` what it prints.

    Raises:
        EnvironmentFailure: its programs cannot be had.
    """

    def __init__(self, settings: Settings, *, newest: bool = False) -> None:
        self._programs = unpacked(settings)
        found = assets.ensure(["containerd", "runc", "netfilter"], settings, print)
        places = [self._programs / "usr/bin", self._programs / "usr/sbin", found.path("containerd").parent]
        if newest:
            built = assets.obtain(NEWEST, settings, print)[0] / "bin"
            places.insert(0, built)
        self.root = Path(tempfile.mkdtemp(prefix="docker-engine-"))
        if lacking := lacking_capabilities():
            runc = self.root / "bin" / "runc"
            runc.parent.mkdir()
            runc.write_text(_RUNC.format(python=sys.executable, lacking=lacking, runc=str(found.path("runc"))))
            runc.chmod(0o755)
            places.insert(0, runc.parent)
        path = os.pathsep.join(map(str, [*places, found.path("netfilter"), os.environ["PATH"]]))
        self.log = self.root / "log"
        self.environment = {
            "PATH": path,
            "DOCKER_HOST": f"unix://{self.root}/docker.sock",
            "DOCKER_CONFIG": str(self.root / "config"),
        }
        self.cgroup = Cgroup(self.root.name)
        self.buildx = self.root / "config" / "cli-plugins" / "docker-buildx"
        self._more = "--feature time-namespaces=false" if newest else ""  # Debian's runc knows none
        if newest:
            self.buildx.parent.mkdir(parents=True)
            self.buildx.symlink_to(built / "buildx")

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            stack.callback(self._remove)
            words = ["sh", "-ec", _INIT, "sh", str(self.root), f"/{self.root.name}", self._more]
            new = ["--mount", "--net", "--ipc", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc"]
            engine = stack.enter_context(self._started(["unshare", *new, "--", *words]))
            wait_for("the Docker engine to answer", lambda: self._answer(engine), timeout_s=_START_S)
            self.pid = int(Path(f"/proc/{engine.pid}/task/{engine.pid}/children").read_text().split()[0])
            ready, told = os.pipe()
            route = ["slirp4netns", "--configure", "--mtu=65520", "--disable-host-loopback", f"--ready-fd={told}"]
            stack.enter_context(self._started([*route, str(self.pid), "tap0"], keeps=told))
            os.close(told)
            with os.fdopen(ready, "rb") as stream:
                assert stream.read(1) == b"1", process.tail(self.log.read_text())
            self._leave = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._leave.close()

    def docker(self, *words: str | Path, timeout_s: float = 60) -> str:
        """Run the engine's own client and return what it printed."""
        return process.run(["docker", *words], timeout_s=timeout_s, env=self.environment).stdout

    @contextlib.contextmanager
    def _started(self, argv: list[str], *, keeps: int | None = None) -> Iterator["subprocess.Popen[bytes]"]:
        """A program that dies with us; killed at the end."""
        libraries = next(self._programs.glob("usr/lib/*-linux-gnu*"))
        with self.log.open("ab") as log:
            child = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", *argv],
                env={**os.environ, **self.environment, "LD_LIBRARY_PATH": str(libraries)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[keeps] if keeps is not None else [],
                start_new_session=True,
            )
        try:
            yield child
        finally:
            child.kill()
            child.wait()

    def _answer(self, engine: "subprocess.Popen[bytes]") -> str | Pending:
        said = process.run(["docker", "version"], timeout_s=10, env=self.environment, check=False)
        if engine.poll() is not None:
            raise AssertionError(f"the engine ended: {process.tail(self.log.read_text())}")
        return said.stdout if said.code == 0 else Pending(process.tail(self.log.read_text(), 1))

    def _remove(self) -> None:
        wait_for("the engine's processes to end", self._ended, timeout_s=_GONE_S)
        left = self.cgroup.remove(timeout_s=_GONE_S)
        shutil.rmtree(self.root)
        assert left == []

    def _ended(self) -> bool | Pending:
        left = processes(str(self.root))
        return Pending(f"{left} are there") if left else True


def unpacked(settings: Settings) -> Path:
    """Return the directory with the engine's programs, from the cache or from Debian's packages."""
    release = platform.freedesktop_os_release()
    home = settings.cache_dir.absolute() / "tests" / f"docker-{release.get('ID')}-{release.get('VERSION_ID')}"
    what = "unpacking a Docker engine for tests"
    with locked(home.with_suffix(".lock"), what=what, timeout_s=settings.download_timeout_s, progress=print):
        if not home.exists():
            with tempfile.TemporaryDirectory(prefix=".docker-", dir=home.parent) as scratch:
                into = Path(scratch, "deb")
                debian.unpack(_PACKAGES, into, timeout_s=settings.download_timeout_s, progress=print)
                (into / "root").rename(home)
    return home


def lacking_capabilities() -> list[str]:
    """Return the capabilities that even root does not have here, as ``CAP_SYS_RESOURCE``."""
    known = process.run(["setpriv", "--list-caps"], timeout_s=10).stdout.split()
    bounding = int(re.search(r"CapBnd:\s*(\w+)", Path("/proc/self/status").read_text())[1], 16)
    return [f"CAP_{name.upper()}" for number, name in enumerate(known) if not bounding >> number & 1]


def processes(text: str) -> list[str]:
    """Return the command lines on the machine that have ``text`` in them."""
    lines = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdecimal() and int(entry.name) != os.getpid():
                lines.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return [line for line in lines if text in line]
