"""The pure parts of the local provider: certificates, configuration, command lines, control groups, forwarder."""

import asyncio
import errno
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import textwrap
import threading
import time
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from k8s_e2e.base.errors import EnvironmentFailure, UsageError
from k8s_e2e.base.wait import Pending, wait_for
from k8s_e2e.cluster import assets, providers
from k8s_e2e.cluster.local import addons, cgroups, cluster_lock, components, configuration, forwarder, pki, provider
from k8s_e2e.cluster.local.layout import DNS_IP, KUBERNETES_IP, NODE_IP, cgroup_name, clusters_dir
from k8s_e2e.cluster.local.provider import LocalProvider
from k8s_e2e.model.settings import Settings


def test_certificates_are_private_and_chain(tmp_path: Path) -> None:
    """Every key is 0600 in a 0700 directory; a client of the authority is accepted by the API server's certificate."""
    pki.write(tmp_path / "pki", server="https://10.99.0.2:6443")
    directory = tmp_path / "pki"
    assert directory.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in directory.iterdir()} == {0o600}
    server, client = _handshake(directory, "apiserver", "admin")
    assert server is None
    assert client is None


def test_foreign_certificate_is_refused(tmp_path: Path) -> None:
    """A client certificate of the other authority does not pass."""
    pki.write(tmp_path / "pki", server="https://10.99.0.2:6443")
    server, _ = _handshake(tmp_path / "pki", "apiserver", "front-proxy-client")
    assert isinstance(server, ssl.SSLError)


def test_names_of_the_api_server(tmp_path: Path) -> None:
    """The API server is valid for its Service, the node and the host's loopback."""
    pki.write(tmp_path / "pki", server="https://10.99.0.2:6443")
    certificate = x509.load_pem_x509_certificate((tmp_path / "pki" / "apiserver.crt").read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert {str(each) for each in names.get_values_for_type(x509.IPAddress)} == {"127.0.0.1", KUBERNETES_IP, NODE_IP}
    assert "kubernetes.default.svc.cluster.local" in names.get_values_for_type(x509.DNSName)
    assert isinstance(certificate.public_key(), ec.EllipticCurvePublicKey)


def test_kubeconfig_is_read_by_kubernetes_tools() -> None:
    """The kubeconfig names one context, cluster and user, with everything inline."""
    ca = pki.authority("test")
    read = yaml.safe_load(pki.kubeconfig(ca, pki.issue(ca, "me"), server="https://127.0.0.1:1", name="mine"))
    assert read["current-context"] == "mine"
    assert read["clusters"][0]["cluster"]["server"] == "https://127.0.0.1:1"
    assert set(read["users"][0]["user"]) == {"client-certificate-data", "client-key-data"}


def test_configuration_files_are_well_formed(tmp_path: Path) -> None:
    """Each file parses as what its reader expects."""
    configuration.write(tmp_path, cgroup="group", runc=Path("/bin/runc"), cni_plugins=Path("/cni"))
    toml = tomllib.loads((tmp_path / "containerd.toml").read_text())
    cri = toml["plugins"]["io.containerd.grpc.v1.cri"]
    assert cri["containerd"]["runtimes"]["runc"]["options"]["BinaryName"] == "/bin/runc"
    assert cri["cni"]["bin_dir"] == "/cni"
    kubelet = json.loads((tmp_path / "kubelet.json").read_text())
    assert kubelet["cgroupRoot"] == "/group"
    assert kubelet["clusterDNS"] == [DNS_IP]
    assert kubelet["containerRuntimeEndpoint"].removeprefix("unix://") == toml["grpc"]["address"]
    assert json.loads((tmp_path / "kube-proxy.json").read_text())["mode"] == "nftables"
    assert json.loads((tmp_path / "cni" / "10-pods.conflist").read_text())["plugins"][0]["type"] == "bridge"


def test_command_lines_name_every_component() -> None:
    """There are arguments for the control plane and the node, and none refers to a path outside of the cluster's."""
    lines = components.command_lines()
    assert set(lines) == {*components.CONTROL_PLANE, *components.NODE_PROGRAMS}
    assert "--leader-elect=false" in lines["kube-scheduler"]
    paths = [word.split("=", 1)[1] for line in lines.values() for word in line if "=/" in word]
    assert all(path.startswith("/run/k8s-e2e") for path in paths)


def test_environment_finds_programs_before_the_systems(tmp_path: Path) -> None:
    """The directories of the assets come first in the PATH, each once; CNI plugins are not programs to find."""
    for name in ("a", "cni"):
        (tmp_path / name).mkdir()
    paths = {"kubelet": tmp_path / "a" / "kubelet", "netfilter": tmp_path / "a", "cni": tmp_path / "cni"}
    path = components.environment(paths)["PATH"].split(":")
    assert path[0] == str(tmp_path / "a")
    assert path.count(str(tmp_path / "a")) == 1
    assert str(tmp_path / "cni") not in path


def test_first_objects_have_a_place() -> None:
    """Every add-on names where it is created, and CoreDNS runs the image that is loaded, without root."""
    objects = addons.objects()
    places = {each["object"]["kind"]: each["path"] for each in objects}
    assert places["Deployment"] == "/apis/apps/v1/namespaces/kube-system/deployments"
    assert places["StorageClass"] == "/apis/storage.k8s.io/v1/storageclasses"
    (deployment,) = [each["object"] for each in objects if each["object"]["kind"] == "Deployment"]
    pod = deployment["spec"]["template"]["spec"]
    assert pod["containers"][0]["image"] == addons.COREDNS_IMAGE
    assert pod["securityContext"]["runAsNonRoot"]


HYBRID = """\
30 23 0:26 / /sys/fs/cgroup ro - tmpfs tmpfs ro
31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw shared:1 - cgroup cgroup rw,cpu,cpuacct
32 30 0:28 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd
33 30 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
"""


def test_hierarchies_are_read_from_mountinfo() -> None:
    """Version 1 hierarchies are all listed, named ones too; version 2 beside them does not make a version 2 host."""
    first, second = cgroups.hierarchies(HYBRID)
    assert first == [Path("/sys/fs/cgroup/cpu,cpuacct"), Path("/sys/fs/cgroup/systemd")]
    assert second == Path("/sys/fs/cgroup/unified")
    assert cgroups.hierarchies("30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n") == (
        [],
        Path("/sys/fs/cgroup"),
    )


def test_each_directory_has_its_own_group() -> None:
    """Clusters of the same name in different state directories do not share a control group."""
    assert cgroup_name(Path("/a/clusters/x")) != cgroup_name(Path("/b/clusters/x"))


def test_forwarder_carries_both_directions_and_ends() -> None:
    """Bytes pass both ways, half-closed connections included; the far end's absence is a reset."""
    answer = bytes(range(256)) * 4096

    def answering(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection:
            received = b""
            while data := connection.recv(65536):
                received += data
            connection.sendall(received[::-1] + answer)

    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=answering, args=(server,), daemon=True).start()
        over = threading.Event()

        async def until_over() -> None:
            await asyncio.to_thread(over.wait)

        forwarding = threading.Thread(
            target=forwarder.serve, args=(listener.dup(), server.getsockname(), until_over()), daemon=True
        )
        forwarding.start()
        try:
            with socket.create_connection(listener.getsockname()) as client:
                client.sendall(b"abc" * 100_000)
                client.shutdown(socket.SHUT_WR)
                got = b""
                while data := client.recv(65536):
                    got += data
            assert got == (b"abc" * 100_000)[::-1] + answer
            server.close()
            with socket.create_connection(listener.getsockname()) as client:
                assert _received(client) == b""
        finally:
            over.set()  # else a failed test would keep the session from ending
        forwarding.join(5)
        assert not forwarding.is_alive()


def test_provider_names(tmp_path: Path) -> None:
    """A provider is had by its name; an unknown one is a usage error that names the others."""
    settings = Settings(state_dir=tmp_path)
    for name in ("local", "kind", "existing"):
        assert providers.get_provider(name, settings).name == name
    with pytest.raises(UsageError, match=r"no provider 'cloud'; known: auto, local"):
        providers.get_provider("cloud", settings)


@pytest.mark.parametrize("name", ["", "a/b", "..", "x" * 64, "a b"])
def test_cluster_names_that_are_none(tmp_path: Path, name: str) -> None:
    """A name that would be a path, or no name, is refused before anything is touched."""
    with pytest.raises(UsageError, match="no name for a cluster"):
        LocalProvider(Settings(state_dir=tmp_path)).down(name, progress=print)
    assert list(tmp_path.iterdir()) == []


def _received(client: socket.socket) -> bytes:
    """Read once; a reset is as good an end as any."""
    try:
        return client.recv(1)
    except ConnectionResetError:
        return b""


def _handshake(directory: Path, server: str, client: str) -> tuple[Exception | None, Exception | None]:
    """Let a server with one certificate and a client with another meet; return what each of them says."""
    serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=directory / "ca.crt")
    serving.verify_mode = ssl.CERT_REQUIRED
    serving.load_cert_chain(directory / f"{server}.crt", directory / f"{server}.key")
    asking = ssl.create_default_context(cafile=directory / "ca.crt")
    asking.load_cert_chain(directory / f"{client}.crt", directory / f"{client}.key")
    ends = socket.socketpair()
    said: list[Exception | None] = [None, None]

    def run(index: int) -> None:
        try:
            if index == 0:
                with serving.wrap_socket(ends[0], server_side=True) as tls:
                    tls.recv(1)
            else:
                with asking.wrap_socket(ends[1], server_hostname=NODE_IP) as tls:
                    tls.send(b"x")
        except OSError as error:
            said[index] = error

    threads = [threading.Thread(target=run, args=(index,)) for index in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    return said[0], said[1]


def test_lock_is_waited_for_and_leaves_no_file(tmp_path: Path) -> None:
    """A second `up` of the same cluster waits, says so, and goes on when the first is done; no lock file stays."""
    said: list[str] = []
    order: list[str] = []

    def second() -> None:
        with cluster_lock.locked(tmp_path, "x", timeout_s=10, progress=said.append):
            order.append("second")

    with cluster_lock.locked(tmp_path, "x", timeout_s=1, progress=print):
        with cluster_lock.locked_now(tmp_path, "x") as free:
            assert not free
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.3)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]
    assert said == ["waiting for another process that is at work on cluster x"]
    assert list(tmp_path.iterdir()) == []


def test_lock_that_is_never_free(tmp_path: Path) -> None:
    """A lock that stays taken ends in an error that names the cluster and the file."""
    with (
        cluster_lock.locked(tmp_path, "x", timeout_s=1, progress=print),
        pytest.raises(EnvironmentFailure, match=r"the lock of cluster x; .*another process has it; .*\.x\.lock"),
        cluster_lock.locked(tmp_path, "x", timeout_s=0.2, progress=print),
    ):
        pass


def test_state_directory_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk while the cluster's directory is written is one clear error, and leaves nothing."""

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(provider, "_refuse_wrong_machine", lambda: None)
    monkeypatch.setattr(assets, "ensure", lambda *_: assets.Assets(paths={}, versions={}, sources={}))
    monkeypatch.setattr(pki, "write", full)
    local = LocalProvider(Settings(state_dir=tmp_path, cache_dir=tmp_path / "cache"))
    with pytest.raises(EnvironmentFailure, match=r"cannot make cluster x in .*No space left.*K8S_E2E_STATE_DIR"):
        local.up("x", control_plane_only=True, progress=print)
    assert [path.name for path in (tmp_path / "clusters").iterdir()] == []


def test_down_of_an_unknown_cluster_says_so(tmp_path: Path) -> None:
    """Removing what is not there is no error, and is told."""
    said: list[str] = []
    LocalProvider(Settings(state_dir=tmp_path)).down("nobody", progress=said.append)
    assert said == ["there is no cluster nobody"]


def test_dead_cluster_that_cannot_be_removed_blocks_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left of one cluster is told and passed by; the next is removed."""
    own = LocalProvider(Settings(state_dir=tmp_path))
    for name in ("bad", "good"):
        (clusters_dir(tmp_path) / name).mkdir(parents=True)
    remove = provider.teardown.remove

    def stuck(root: Path, *, timeout_s: float) -> None:
        if root.name == "bad":
            raise EnvironmentFailure("cluster bad is not quite gone; left: process 7")
        remove(root, timeout_s=timeout_s)

    monkeypatch.setattr(provider.teardown, "remove", stuck)
    said: list[str] = []
    own._sweep(said.append)
    assert said[1].startswith("cannot remove what is left of cluster bad: cluster bad is not quite gone")
    assert [path.name for path in clusters_dir(tmp_path).iterdir()] == ["bad"]


def test_component_that_cannot_be_started_again_is_tried_later(tmp_path: Path) -> None:
    """PID 1 lives on where a restart itself fails (its log cannot be opened), and starts the component when it can."""
    (tmp_path / "logs").mkdir()
    script = f"""
        import shutil
        from pathlib import Path
        from k8s_e2e.cluster.local import init
        init.INSIDE, init._RETRY_AFTER_S = Path({str(tmp_path)!r}), 0.1
        command = ["/bin/sh", "-c", "echo started >> runs; sleep 0.2"]
        plan = {{"commands": {{"etcd": command}}, "environment": {{}}, "addons": [], "images": []}}
        boot = init.Boot({{**plan, "component_timeout_s": 1.0}})
        boot._start("etcd")
        shutil.rmtree({str(tmp_path / "logs")!r})
        Path({str(tmp_path / "broken")!r}).touch()
        boot.supervise()
    """
    child = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], start_new_session=True)
    try:
        _until((tmp_path / "broken").exists)
        time.sleep(2.0)  # the restart is due after 1 s
        assert child.poll() is None
        assert (tmp_path / "runs").read_text() == "started\n"
        (tmp_path / "logs").mkdir()
        _until(lambda: (tmp_path / "runs").read_text().startswith("started\nstarted\n"))
    finally:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def _until(probe: Callable[[], bool]) -> None:
    assert wait_for("the cluster's PID 1", lambda: probe() or Pending("not yet"), timeout_s=30)
