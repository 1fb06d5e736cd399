"""PID 1 of a local cluster: it lays the namespaces out, starts the components in order, and keeps them running.

What it says to whoever called `up` are JSON lines on standard output: ``{"progress": ...}``, then ``{"ready": true}``
or ``{"failed": ...}``. Imports are lean on purpose: this is on the way of every `up`.
"""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from k8s_e2e.base.errors import EnvironmentFailure, KitError
from k8s_e2e.base.process import tail
from k8s_e2e.base.wait import Pending, wait_for
from k8s_e2e.cluster.local import health, namespaces
from k8s_e2e.cluster.local.components import CTR
from k8s_e2e.cluster.local.layout import API_PORT, CONTAINERD_ROOT, HIDDEN, INSIDE, NODE, NODE_GATEWAY, NODE_IP

T = TypeVar("T")
_RESTART_AFTER_S = 1.0
_RETRY_AFTER_S = 5.0  # where a start itself failed

# kubelet sets these for the whole machine; it gets private files to write to.
_PRIVATE_SYSCTLS = {
    "/proc/sys/vm/overcommit_memory": "1",
    "/proc/sys/vm/panic_on_oom": "0",
    "/proc/sys/kernel/panic": "10",
    "/proc/sys/kernel/panic_on_oops": "1",
    "/proc/sys/kernel/keys/root_maxkeys": "1000000",
    "/proc/sys/kernel/keys/root_maxbytes": "25000000",
}


def run(root: Path, plan: dict[str, Any]) -> NoReturn:
    """Be PID 1 of the cluster in directory ``root``; ``plan`` is its ``boot.json``."""
    try:
        lay_out(root, [Path(each) for each in plan["needs"]])
        if plan["images_in_memory"]:
            CONTAINERD_ROOT.mkdir()
            namespaces.mount_tmpfs(CONTAINERD_ROOT)
        cluster = Boot(plan)
        cluster.start_all()
        _say(ready=True)
    except (KitError, OSError) as error:
        _say(failed=str(error))
        os._exit(1)
    _let_go_of_parent()
    cluster.supervise()


def lay_out(root: Path, needs: list[Path]) -> None:
    """Make the file system, network and host name that the components see."""
    namespaces.mount_proc()
    with namespaces.Kept(needs, HIDDEN) as kept, contextlib.ExitStack() as opened:
        inside = _opened(root, opened)
        # All are opened before the first is hidden: they may lie below each other.
        private = {each: _opened(root / "private" / each.strip("/").replace("/", "-"), opened) for each in HIDDEN}
        for hidden, handle in private.items():
            if hidden == "/run":
                namespaces.mount_tmpfs(hidden)
            else:
                namespaces.bind(f"/proc/self/fd/{handle}", hidden)
        kept.show()
        INSIDE.mkdir()
        namespaces.bind(f"/proc/self/fd/{inside}", INSIDE)
    for needed in ("/run/netns", "/run/lock"):
        Path(needed).mkdir(exist_ok=True)
    namespaces.replace_files(INSIDE / "private" / "sysctl", _PRIVATE_SYSCTLS)
    namespaces.share_mounts()
    namespaces.set_hostname(NODE)
    namespaces.set_up_network(NODE_IP, NODE_GATEWAY)


def _opened(directory: Path, opened: contextlib.ExitStack) -> int:
    directory.mkdir(parents=True, exist_ok=True)
    handle = os.open(directory, os.O_PATH | os.O_CLOEXEC)
    opened.callback(os.close, handle)
    return handle


class Boot:
    """The components of one cluster: how they are started, in which order, and started again."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self._commands: dict[str, list[str]] = plan["commands"]
        self._environment: dict[str, str] = plan["environment"]
        self._addons: list[dict[str, Any]] = plan["addons"]
        self._images: list[str] = plan["images"]
        self._timeout_s: float = plan["component_timeout_s"]
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start_all(self) -> None:
        """Bring the cluster up.

        Raises:
            EnvironmentFailure: a component died (its last lines).
            WaitTimeout: a component did not become healthy in time.
        """
        with_node = "kubelet" in self._commands
        self._start("etcd")
        if with_node:
            self._start("containerd")
        self._wait("etcd", lambda: health.healthy("http://127.0.0.1:2379/readyz"))
        self._start("kube-apiserver")
        importing = self._import_images() if with_node else None
        if with_node:
            # kubelet needs no more than a listener; the others would be refused until the API server's own roles exist.
            self._wait("kube-apiserver listens", lambda: health.listens(NODE_IP, API_PORT))
            self._start("kubelet")
        self._wait("kube-apiserver ready", lambda: health.healthy(f"{health.API}/readyz"))
        for name in ("kube-controller-manager", "kube-scheduler", "kube-proxy"):
            if name in self._commands:
                self._start(name)
        for each in self._addons:
            self._wait("", lambda each=each: health.create(each["path"], each["object"]))  # type: ignore[misc]
        self._wait("kube-controller-manager", lambda: health.healthy("https://127.0.0.1:10257/healthz"))
        service_account = "/api/v1/namespaces/default/serviceaccounts/default"
        if with_node:
            if importing:
                self._wait("images imported", lambda: self._imported(importing))
            self._wait("kube-scheduler", lambda: health.healthy("https://127.0.0.1:10259/readyz"))
            self._wait("kubelet", lambda: health.healthy("http://127.0.0.1:10248/healthz"))
            self._wait("kube-proxy", lambda: health.healthy("http://127.0.0.1:10256/healthz"))
            self._wait("node Ready", health.node_ready)
        # Pods are refused until their namespace has this.
        self._wait("default ServiceAccount", lambda: health.exists(service_account))
        if with_node:
            self._wait("CoreDNS available", lambda: health.deployment_available("kube-system", "coredns"))

    def supervise(self) -> NoReturn:
        """Reap what ends, for ever; a component that died is started again a second later."""
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
        due: dict[str, float] = {}
        while True:
            now = time.monotonic()
            for name in [name for name, when in due.items() if when <= now]:
                del due[name]
                try:
                    self._start(name)
                except OSError:  # a full disk, no memory: the cluster outlives it
                    due[name] = time.monotonic() + _RETRY_AFTER_S
            for name in self._reap():
                due[name] = time.monotonic() + _RESTART_AFTER_S
            if due:
                signal.sigtimedwait({signal.SIGCHLD}, max(0.0, min(due.values()) - time.monotonic()))
            else:
                signal.sigwait({signal.SIGCHLD})

    def _reap(self) -> list[str]:
        died = []
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                for name, program in self._running.items():
                    if program.pid == ended[0]:
                        program.returncode = os.waitstatus_to_exitcode(ended[1])
                        self._log(name, f"{name} ended with {program.returncode}; it is started again")
                        died.append(name)
        return died

    def _start(self, name: str) -> None:
        with (INSIDE / "logs" / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(
                self._commands[name],
                env=self._environment,
                cwd=INSIDE,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=_unblock,  # noqa: PLW1509 - this process has one thread
            )

    def _log(self, name: str, line: str) -> None:
        with contextlib.suppress(OSError), (INSIDE / "logs" / f"{name}.log").open("a") as log:
            log.write(f"{line}\n")

    def _wait(self, what: str, probe: Callable[[], T | Pending]) -> T:
        def watched() -> T | Pending:
            for name, program in self._running.items():
                if program.poll() is not None:
                    words = tail((INSIDE / "logs" / f"{name}.log").read_text("utf-8", "replace"))
                    raise EnvironmentFailure(f"{name} ended with {program.returncode}; its last lines:\n{words}")
            return probe()

        seen = wait_for(what or "an add-on to be created", watched, timeout_s=self._timeout_s, interval_s=0.05)
        if what:
            _say(progress=what)
        return seen

    def _import_images(self) -> subprocess.Popen[bytes] | None:
        if not self._images:
            return None
        ready = [*CTR[:3], "version"]
        self._wait("containerd", lambda: self._answers(ready))
        with (INSIDE / "logs" / "images.log").open("ab") as log:
            return subprocess.Popen(
                [*CTR, "images", "import", *self._images],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def _answers(self, argv: list[str]) -> bool | Pending:
        done = subprocess.run(argv, env=self._environment, capture_output=True, check=False)
        return True if done.returncode == 0 else Pending(done.stderr.decode(errors="replace").strip())

    def _imported(self, importing: subprocess.Popen[bytes]) -> bool | Pending:
        code = importing.poll()
        if code is None:
            return Pending("ctr is at work")
        if code != 0:
            words = tail((INSIDE / "logs" / "images.log").read_text("utf-8", "replace"))
            raise EnvironmentFailure(f"containerd does not take the cluster's own images: {words}")
        return True


def _unblock() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})


def _say(**words: Any) -> None:
    with contextlib.suppress(OSError):  # nobody listens any more
        os.write(1, json.dumps(words).encode() + b"\n")


def _let_go_of_parent() -> None:
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.close(null)
