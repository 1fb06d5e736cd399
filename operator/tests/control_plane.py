"""A real etcd, kube-apiserver and kube-controller-manager on loopback: what only a real API server can show.

No node: pods are created by the controllers and never start. Everything lives in one directory and ends with ``stop``.
"""

import contextlib
import json
import os
import secrets
import shutil
import socket
import ssl
import subprocess
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager")


def find_binaries() -> Path | None:
    """The directory named by K8S_E2E_BIN_DIR if it holds all programs, else None."""
    name = os.environ.get("K8S_E2E_BIN_DIR")
    directory = Path(name) if name else None
    return directory if directory and all((directory / program).exists() for program in PROGRAMS) else None


@dataclass
class ControlPlane:
    """Processes of one control plane and the kubeconfig of its administrator."""

    kubeconfig: Path
    directory: Path
    binaries: Path
    port: int
    etcd_port: int
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, program: str, *arguments: str) -> None:
        """Start one program; its output goes to <program>.log."""
        log = (self.directory / f"{program}.log").open("ab")
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.directory), "GOGC": "400"}
        command = [str(self.binaries / program), *arguments]
        with log:
            self.processes[program] = subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    def start_apiserver(self) -> None:
        """Start (or start again) the API server and wait until it is ready."""
        d = self.directory
        self.start(
            "kube-apiserver",
            f"--etcd-servers=http://127.0.0.1:{self.etcd_port}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            f"--secure-port={self.port}",
            f"--cert-dir={d}/tls",
            f"--token-auth-file={d}/tokens.csv",
            "--authorization-mode=RBAC",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            f"--service-account-key-file={d}/sa.key",
            f"--service-account-signing-key-file={d}/sa.key",
            "--endpoint-reconciler-type=none",
            "--profiling=false",
        )
        self.wait("kube-apiserver", lambda: self.get("/readyz") == "ok")

    def get(self, path: str) -> str:
        """One GET as the administrator."""
        context = ssl.create_default_context(cafile=str(self.directory / "tls/apiserver.crt"))
        token = (self.directory / "tokens.csv").read_text().split(",")[0]
        request = urllib.request.Request(
            f"https://127.0.0.1:{self.port}{path}", headers={"Authorization": f"Bearer {token}"}
        )
        with urllib.request.urlopen(request, timeout=2, context=context) as reply:  # noqa: S310
            return str(reply.read().decode())

    def wait(self, program: str, ready, timeout_s: float = 90) -> None:  # type: ignore[no-untyped-def]
        """Wait until `ready()` is true.

        Raises:
            RuntimeError: the program ended, or the deadline passed; with the last lines of its log.
        """
        deadline, last = time.monotonic() + timeout_s, "no answer yet"
        while time.monotonic() < deadline and self.processes[program].poll() is None:
            try:
                if ready():
                    return
            except (OSError, ValueError) as error:
                last = str(error)
            time.sleep(0.1)
        tail = (self.directory / f"{program}.log").read_text(errors="replace")[-2000:]
        raise RuntimeError(f"{program} was not ready in {timeout_s} s ({last}); its log ends: {tail}")

    def kill(self, program: str) -> None:
        """SIGKILL one program."""
        process = self.processes.pop(program)
        process.kill()
        process.wait()

    def stop(self) -> None:
        """End all programs and remove the directory."""
        for program in list(self.processes):
            self.kill(program)
        shutil.rmtree(self.directory, ignore_errors=True)


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [int(s.getsockname()[1]) for s in sockets]


def start_control_plane(binaries: Path, directory: Path, *, controllers: bool = True) -> ControlPlane:
    """Start etcd, the API server and (unless told otherwise) the controller manager; takes about 5 s."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    etcd_port, peer_port, port, manager_port = _free_ports(4)
    token = secrets.token_hex(16)
    (directory / "tokens.csv").write_text(f'{token},admin,admin,"system:masters"\n')
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    (directory / "sa.key").write_bytes(pem)
    kubeconfig = directory / "kubeconfig"
    plane = ControlPlane(kubeconfig, directory, binaries, port, etcd_port)
    try:
        plane.start(
            "etcd",
            f"--data-dir={directory}/etcd",
            f"--listen-client-urls=http://127.0.0.1:{etcd_port}",
            f"--advertise-client-urls=http://127.0.0.1:{etcd_port}",
            f"--listen-peer-urls=http://127.0.0.1:{peer_port}",
            f"--initial-advertise-peer-urls=http://127.0.0.1:{peer_port}",
            f"--initial-cluster=default=http://127.0.0.1:{peer_port}",
            "--unsafe-no-fsync",
            "--log-level=warn",
        )
        plane.start_apiserver()
        kubeconfig.write_text(json.dumps(_kubeconfig(f"https://127.0.0.1:{port}", directory, token)))
        kubeconfig.chmod(0o600)
        if controllers:
            plane.start(
                "kube-controller-manager",
                f"--kubeconfig={kubeconfig}",
                f"--service-account-private-key-file={directory}/sa.key",
                f"--root-ca-file={directory}/tls/apiserver.crt",
                "--leader-elect=false",
                "--bind-address=127.0.0.1",
                f"--secure-port={manager_port}",
                f"--cert-dir={directory}/manager-tls",
                "--kube-api-qps=300",
                "--kube-api-burst=600",
                "--profiling=false",
            )
            plane.wait(
                "kube-controller-manager", lambda: bool(plane.get("/api/v1/namespaces/default/serviceaccounts/default"))
            )
    except BaseException:
        plane.stop()
        raise
    return plane


def _kubeconfig(server: str, directory: Path, token: str) -> dict[str, object]:
    cluster = {"server": server, "certificate-authority": str(directory / "tls/apiserver.crt")}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": cluster}],
        "users": [{"name": "admin", "user": {"token": token}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin"}}],
        "current-context": "test",
    }
