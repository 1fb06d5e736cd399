"""The local provider on the real thing: what works in a cluster, and what is left after one."""

import os
import shutil
import signal
import subprocess
import tempfile
import urllib.request
from pathlib import Path

import pytest

from k8s_e2e.base.errors import EnvironmentFailure, UsageError
from k8s_e2e.base.wait import Pending, wait_for
from k8s_e2e.cluster import debian, oci
from k8s_e2e.cluster.local import teardown
from k8s_e2e.cluster.local.layout import cgroup_name, clusters_dir
from k8s_e2e.cluster.local.provider import LocalProvider
from k8s_e2e.cluster.provider import Cluster
from k8s_e2e.model.settings import Settings
from tests.cluster.conftest import Kubectl
from tests.cluster.leftovers import assert_nothing_left, host_state, kill_up_after, start_up

pytestmark = pytest.mark.cluster

WEB = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
        - name: web
          image: localhost/busybox:1
          imagePullPolicy: Never
          args: [sh, -c, "echo started; mkdir /tmp/www; echo hello > /tmp/www/index.html; exec busybox httpd -f -p 8080 -h /tmp/www"]
          readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
"""  # noqa: E501


@pytest.fixture
def web(busybox: str, kubectl: Kubectl, namespace: str) -> str:
    """A namespace with a web server behind a Service."""
    kubectl("apply", "-n", namespace, "-f", "-", stdin=WEB)
    kubectl("wait", "-n", namespace, "--for=condition=Available", "deployment/web", "--timeout=60s")
    return namespace


def test_node_is_ready_and_nodes_components_are_named(
    provider: LocalProvider, cluster: Cluster, kubectl: Kubectl, tmp_path: Path
) -> None:
    """An `up` cluster has one Ready node, and its files are the user's alone."""
    (node,) = kubectl.get("nodes")["items"]
    assert {each["type"]: each["status"] for each in node["status"]["conditions"]}["Ready"] == "True"
    assert f"v{cluster.versions['kubernetes']}" == node["status"]["nodeInfo"]["kubeletVersion"]
    assert cluster.kubeconfig.stat().st_mode & 0o777 == 0o600
    assert cluster.kubeconfig.parent.stat().st_mode & 0o777 == 0o700
    logs = provider.component_logs(cluster.name, tmp_path, timeout_s=60)
    assert {"etcd", "kube-apiserver", "kubelet", "containerd"} <= logs.keys()


def test_service_answers_by_name_from_a_pod(web: str, kubectl: Kubectl) -> None:
    """A pod reaches a Service by its DNS name: DNS, ClusterIP and pod network work."""
    words = [
        "exec",
        "-n",
        web,
        "deployment/web",
        "--",
        "busybox",
        "wget",
        "-qO-",
        f"http://web.{web}.svc.cluster.local",
    ]

    def answer() -> str | Pending:
        said = kubectl(*words, check=False)
        return said or Pending("nothing")

    assert wait_for("an answer: kube-proxy may learn of the endpoint a moment later", answer, timeout_s=20) == "hello\n"


def test_another_image_under_the_same_name_is_the_one_that_runs(
    provider: LocalProvider, cluster: Cluster, busybox: str, kubectl: Kubectl, namespace: str, tmp_path: Path
) -> None:
    """A tag that is loaded again with other content, after pods ran it, is what the next pod runs."""
    reference = "localhost/again:1"
    shell = Path(tmp_path, "sh")
    debian.unpack(["busybox-static"], tmp_path / "deb", timeout_s=60, progress=print)
    shutil.copy2(next((tmp_path / "deb" / "root").glob("**/bin/busybox")), shell)
    for word in ("first", "second"):
        said = tmp_path / word
        said.write_text(f"{word}\n")
        files = {"/bin/sh": shell, "/bin/cat": shell, "/said": said}
        image = oci.single_binary_image(tmp_path / f"{word}.tar", reference, ["/bin/cat", "/said"], files)
        provider.load(cluster.name, image.archive, progress=print)
        assert image.digest in {each.digest for each in provider.images(cluster.name) if each.reference == reference}
        kubectl("run", word, "-n", namespace, f"--image={reference}", "--image-pull-policy=Never", "--restart=Never")
        kubectl("wait", "-n", namespace, "--for=jsonpath={.status.phase}=Succeeded", f"pod/{word}", "--timeout=60s")
        assert kubectl("logs", "-n", namespace, word) == f"{word}\n"


def test_logs_are_kubectls_and_the_hosts(web: str, kubectl: Kubectl, cluster: Cluster) -> None:
    """A container's output is there through the API and as a file of the node."""
    assert kubectl("logs", "-n", web, "deployment/web") == "started\n"
    assert cluster.pod_logs
    files = list(cluster.pod_logs.glob(f"{web}_web-*/web/0.log"))
    assert len(files) == 2
    assert all(file.read_text().rstrip().endswith("F started") for file in files)


def test_port_forward_answers(web: str, kubectl: Kubectl) -> None:
    """Kubectl port-forward reaches a pod from the host."""
    forward = subprocess.Popen(
        [*kubectl.argv, "port-forward", "-n", web, "service/web", ":80"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert forward.stdout
        port = forward.stdout.readline().split(":")[1].split()[0]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as reply:
            assert reply.read() == b"hello\n"
    finally:
        forward.kill()
        forward.communicate()


def test_up_again_returns_the_same_cluster(provider: LocalProvider, cluster: Cluster) -> None:
    """`up` of a cluster that is up is `attach`."""
    assert provider.up(cluster.name, progress=print) == provider.attach(cluster.name)


def test_dead_component_is_started_again(
    provider: LocalProvider, cluster: Cluster, local_settings: Settings, tmp_path: Path
) -> None:
    """A component that is killed comes back, and its log says so."""
    root = clusters_dir(local_settings.state_dir) / cluster.name
    killed = _pid_of("kube-scheduler", root)
    os.kill(killed, signal.SIGKILL)

    def back() -> int | Pending:
        pid = _pid_of("kube-scheduler", root)
        return pid if pid not in (0, killed) else Pending(f"pid {pid}")

    wait_for("a new kube-scheduler", back, timeout_s=20)
    assert (
        "it is started again"
        in provider.component_logs(cluster.name, tmp_path, timeout_s=60)["kube-scheduler"].read_text()
    )


def test_second_cluster_beside_leaves_nothing(
    provider: LocalProvider, local_settings: Settings, control_plane: Cluster, cluster: Cluster
) -> None:
    """Two clusters live side by side; a third one's `down` removes every trace of that one only."""
    before = host_state(local_settings)
    third = provider.up("third", control_plane_only=True, progress=print)
    root = clusters_dir(local_settings.state_dir) / "third"
    assert len(teardown.processes(root)) == 2
    provider.down("third", progress=print)
    assert not third.kubeconfig.exists()
    assert_nothing_left(root)
    assert host_state(local_settings) == before
    assert provider.attach(control_plane.name).name == control_plane.name
    assert provider.attach(cluster.name).name == cluster.name


def test_control_plane_takes_objects(control_plane: Cluster) -> None:
    """A control plane without a node stores objects and runs controllers."""
    kubectl = Kubectl(control_plane)
    kubectl("create", "deployment", "idle", "--image=localhost/none:1")
    kubectl("wait", "--for=create", "replicaset", "-l", "app=idle", "--timeout=20s")
    assert kubectl.get("nodes")["items"] == []


@pytest.mark.parametrize("after_s", [0.4, 2.5])
def test_killed_up_is_removed(provider: LocalProvider, local_settings: Settings, after_s: float) -> None:
    """After kill -9 of `up`, `down` leaves nothing."""
    before = host_state(local_settings)
    root = clusters_dir(local_settings.state_dir) / "killed"
    kill_up_after(local_settings, "killed", after_s)
    provider.down("killed", progress=print)
    assert_nothing_left(root)
    assert host_state(local_settings) == before


def test_cluster_outlives_its_maker(provider: LocalProvider, local_settings: Settings) -> None:
    """A cluster that is up survives the death of the process that made it and of that one's whole process group."""
    maker = start_up(local_settings, "orphan", control_plane_only=True)
    assert maker.stdout
    assert "UP\n" in iter(maker.stdout.readline, "")
    os.killpg(maker.pid, signal.SIGKILL)
    maker.communicate()
    try:
        assert provider.attach("orphan").name == "orphan"
    finally:
        provider.down("orphan", progress=print)
    assert_nothing_left(clusters_dir(local_settings.state_dir) / "orphan")


def test_next_up_sweeps_what_a_killed_one_left(provider: LocalProvider, local_settings: Settings) -> None:
    """What a killed `up` left is removed by the next `up` of another cluster."""
    root = clusters_dir(local_settings.state_dir) / "stale"
    kill_up_after(local_settings, "stale", 0.6)
    try:
        provider.up("sweeper", control_plane_only=True, progress=print)
        assert_nothing_left(root)
    finally:
        provider.down("sweeper", progress=print)


@pytest.mark.parametrize("below", ["/var/lib", "/run"])
def test_state_directory_may_be_anywhere(local_settings: Settings, below: str) -> None:
    """The state directory may lie where the cluster's processes see private directories."""
    with tempfile.TemporaryDirectory(prefix="k8s-e2e-test-", dir=below) as state:
        provider = LocalProvider(local_settings.model_copy(update={"state_dir": Path(state)}))
        try:
            provider.up("hidden", control_plane_only=True, progress=print)
        finally:
            provider.down("hidden", progress=print)
        assert_nothing_left(clusters_dir(Path(state)) / "hidden")


def test_cluster_whose_directory_is_deleted_ends(provider: LocalProvider, local_settings: Settings) -> None:
    """A cluster does not outlive its directory: temporary ones are deleted without `down`."""
    provider.up("deleted", control_plane_only=True, progress=print)
    root = clusters_dir(local_settings.state_dir) / "deleted"
    shutil.rmtree(root)
    wait_for("its end", lambda: Pending("alive") if teardown.processes(root) else True, timeout_s=20)
    assert_nothing_left(root)


def test_unknown_and_dead_clusters(provider: LocalProvider, local_settings: Settings) -> None:
    """`down` of an unknown cluster is fine; `attach` says whether there is none, or one that died."""
    provider.down("nobody", progress=print)
    with pytest.raises(EnvironmentFailure, match="there is no local cluster 'nobody'"):
        provider.attach("nobody")
    with pytest.raises(UsageError, match="no name for a cluster"):
        provider.up("../x", progress=print)
    provider.up("dead", control_plane_only=True, progress=print)
    root = clusters_dir(local_settings.state_dir) / "dead"
    os.kill(teardown.processes(root)[-1], signal.SIGKILL)
    wait_for("its end", lambda: Pending("alive") if len(teardown.processes(root)) else True, timeout_s=10)
    with pytest.raises(EnvironmentFailure, match="'dead' has died: none of its processes is left"):
        provider.attach("dead")
    provider.down("dead", progress=print)


def test_broken_component_is_told_by_its_last_words(
    provider: LocalProvider, local_settings: Settings, tmp_path: Path
) -> None:
    """A component that dies during `up` is named, with its last lines, and nothing is left."""
    (tmp_path / "etcd").write_text("#!/bin/sh\necho no space in this etcd >&2\nexit 3\n")
    (tmp_path / "etcd").chmod(0o755)
    broken = LocalProvider(local_settings.model_copy(update={"bin_dir": tmp_path}))
    with pytest.raises(EnvironmentFailure, match=r"etcd ended with 3; its last lines:\nno space in this etcd"):
        broken.up("broken", control_plane_only=True, progress=print)
    assert_nothing_left(clusters_dir(local_settings.state_dir) / "broken")


def _pid_of(component: str, root: Path) -> int:
    """Return the pid (as the host counts) of a component of the cluster in ``root``, 0 where there is none."""
    for process in Path("/proc").iterdir():
        if process.name.isdecimal():
            try:
                program = (process / "cmdline").read_bytes().split(b"\0")[0].decode()
                groups = (process / "cgroup").read_text()
            except OSError:
                continue
            if Path(program).name == component and cgroup_name(root) in groups:
                return int(process.name)
    return 0
