"""The configuration files of containerd, CNI, kubelet and kube-proxy, as the components see the file system."""

import json
from pathlib import Path
from typing import Any

from k8s_e2e.cluster.local.layout import (
    CONTAINERD_ROOT,
    CONTAINERD_SOCKET,
    CONTAINERD_STATE,
    DNS_IP,
    DOMAIN,
    INSIDE,
    NODE,
    PAUSE_IMAGE,
    POD_CIDR,
)

_CONFIG = INSIDE / "config"
_PKI = INSIDE / "pki"

_CONTAINERD = """\
version = 2
root = '{root}'
state = '{state}'
disabled_plugins = [
  'io.containerd.snapshotter.v1.aufs', 'io.containerd.snapshotter.v1.btrfs', 'io.containerd.snapshotter.v1.devmapper',
  'io.containerd.snapshotter.v1.zfs', 'io.containerd.internal.v1.tracing']
[grpc]
address = '{socket}'
[plugins.'io.containerd.internal.v1.opt']
path = '{opt}'
[plugins.'io.containerd.grpc.v1.cri']
sandbox_image = '{pause}'
restrict_oom_score_adj = true  # a root without CAP_SYS_RESOURCE may not lower it
netns_mounts_under_state_dir = true
disable_apparmor = true
[plugins.'io.containerd.grpc.v1.cri'.cni]
bin_dir = '{cni}'
conf_dir = '{cni_config}'
[plugins.'io.containerd.grpc.v1.cri'.containerd]
snapshotter = 'overlayfs'
default_runtime_name = 'runc'
[plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.runc]
runtime_type = 'io.containerd.runc.v2'
[plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.runc.options]
BinaryName = '{runc}'
SystemdCgroup = false
"""


def containerd(*, runc: Path, cni: Path) -> str:
    """Return containerd's configuration (version 2, which containerd 1.6 to 2.x read)."""
    return _CONTAINERD.format(
        root=CONTAINERD_ROOT,
        state=CONTAINERD_STATE,
        socket=CONTAINERD_SOCKET,
        opt=INSIDE / "containerd-opt",
        pause=PAUSE_IMAGE,
        cni=cni,
        cni_config=_CONFIG / "cni",
        runc=runc,
    )


def cni() -> dict[str, Any]:
    """Return the pod network: a bridge, addresses from a file, ports of the host."""
    ipam = {
        "type": "host-local",
        "dataDir": str(INSIDE / "ipam"),
        "ranges": [[{"subnet": POD_CIDR}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    bridge = {
        "type": "bridge",
        "bridge": "cni0",
        "isGateway": True,
        "ipMasq": True,
        "hairpinMode": True,  # a pod reaches itself through its Service
        "ipam": ipam,
    }
    portmap = {"type": "portmap", "capabilities": {"portMappings": True}}
    return {"cniVersion": "1.0.0", "name": "pods", "plugins": [bridge, portmap]}


def kubelet(cgroup: str) -> dict[str, Any]:
    """Return kubelet's configuration (kubelet.config.k8s.io/v1beta1); ``cgroup`` is the cluster's group."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": "0.0.0.0",  # noqa: S104 - of a network namespace that nothing outside reaches
        "readOnlyPort": 0,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(_PKI / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(_PKI / "kubelet-server.crt"),
        "tlsPrivateKeyFile": str(_PKI / "kubelet-server.key"),
        "clusterDomain": DOMAIN,
        "clusterDNS": [DNS_IP],
        "resolvConf": str(_CONFIG / "resolv.conf"),
        "podLogsDir": str(INSIDE / "pod-logs"),
        "volumePluginDir": str(INSIDE / "volume-plugins"),
        "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{cgroup}",
        "kubeletCgroups": f"/{cgroup}/sys",
        "cgroupsPerQOS": True,
        "enforceNodeAllocatable": ["pods"],
        "failCgroupV1": False,
        "failSwapOn": False,
        "maxOpenFiles": 20000,  # more than the hard limit needs CAP_SYS_RESOURCE
        "oomScoreAdj": 0,  # less than 0 needs it, too
        "serializeImagePulls": False,
        "imageGCHighThresholdPercent": 100,  # nothing could pull an image again
        "imageMinimumGCAge": "8760h",
        "nodeStatusUpdateFrequency": "5s",
        "evictionHard": {
            "memory.available": "100Mi",
            "nodefs.available": "1%",
            "nodefs.inodesFree": "1%",
            "imagefs.available": "1%",
            "imagefs.inodesFree": "1%",
        },
    }


def kube_proxy() -> dict[str, Any]:
    """Return kube-proxy's configuration (kubeproxy.config.k8s.io/v1alpha1)."""
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clusterCIDR": POD_CIDR,
        "hostnameOverride": NODE,
        "healthzBindAddress": "127.0.0.1:10256",
        "metricsBindAddress": "127.0.0.1:10249",
        "nodePortAddresses": ["primary"],
        "oomScoreAdj": 0,
        "clientConnection": {"kubeconfig": str(_PKI / "kube-proxy.kubeconfig")},
        # nf_conntrack_max belongs to the host and is read-only in a network namespace.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    }


def write(directory: Path, *, cgroup: str, runc: Path, cni_plugins: Path) -> None:
    """Write them all into ``directory``."""
    (directory / "cni").mkdir(parents=True)
    (directory / "containerd.toml").write_text(containerd(runc=runc, cni=cni_plugins))
    (directory / "cni" / "10-pods.conflist").write_text(json.dumps(cni(), indent=2))
    (directory / "kubelet.json").write_text(json.dumps(kubelet(cgroup), indent=2))
    (directory / "kube-proxy.json").write_text(json.dumps(kube_proxy(), indent=2))
    (directory / "resolv.conf").write_text("nameserver 127.0.0.1\n")
