"""Names, addresses and paths of a local cluster, as the host sees them and as its own processes do."""

import hashlib
from pathlib import Path

LAUNCHER = "k8s_e2e.cluster.local.launcher"
"""The module that is a cluster's outermost process: by it and the directory its processes are found."""
NODE = "node"
NODE_IP = "10.99.0.2"
NODE_GATEWAY = "10.99.0.1"  # nobody answers there; a default route is what kubelet and kube-proxy look for
POD_CIDR = "10.88.0.0/24"
SERVICE_CIDR = "10.96.0.0/16"
KUBERNETES_IP = "10.96.0.1"
DNS_IP = "10.96.0.10"
DOMAIN = "cluster.local"
API_PORT = 6443
PAUSE_IMAGE = "registry.k8s.io/pause:3.9"

INSIDE = Path("/run/k8s-e2e")
"""The cluster's directory as its own processes see it: short (socket paths end at 107 bytes) and always the same."""
CONTAINERD_ROOT = INSIDE / "containerd"
"""Images and containers' layers: in memory where there is enough of it, else in the cluster's directory."""
CONTAINERD_STATE = Path("/run/containerd")
CONTAINERD_SOCKET = CONTAINERD_STATE / "containerd.sock"
HIDDEN = ("/run", "/var/lib", "/var/log", "/tmp")  # noqa: S108 - replaced by private directories
"""Directories of the host that the cluster's processes write to; they see private ones instead."""


class ClusterDir:
    """The directory of one cluster: everything it ever writes is below it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.pki = root / "pki"
        self.config = root / "config"
        self.logs = root / "logs"
        self.pod_logs = root / "pod-logs"
        self.kubeconfig = root / "kubeconfig"
        self.boot = root / "config" / "boot.json"
        self.failed_logs = root.parents[1] / "failed" / root.name  # of the last `up` that failed
        self.record = root / "cluster.json"  # written when the cluster is up

    @property
    def cgroup(self) -> str:
        """The name of the cluster's control group: one for each directory on the machine."""
        return cgroup_name(self.root)


def cgroup_name(root: Path) -> str:
    """Return the control group's name for the cluster in directory ``root``."""
    return f"k8s-e2e-{hashlib.sha256(str(root).encode()).hexdigest()[:12]}"


def clusters_dir(state_dir: Path) -> Path:
    """Return the directory that holds a directory for each cluster."""
    return state_dir.absolute() / "clusters"
