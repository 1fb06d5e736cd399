"""The programs of a local cluster: their command lines and environments. Pure."""

from collections.abc import Mapping
from pathlib import Path

from k8s_e2e.cluster.local.layout import (
    API_PORT,
    CONTAINERD_SOCKET,
    DOMAIN,
    INSIDE,
    NODE,
    NODE_IP,
    POD_CIDR,
    SERVICE_CIDR,
)

CONTROL_PLANE = ("etcd", "kube-apiserver", "kube-controller-manager")
NODE_PROGRAMS = ("containerd", "kube-scheduler", "kubelet", "kube-proxy")
_PKI = INSIDE / "pki"
_ETCD = "http://127.0.0.1:2379"
_ETCD_PEER = "http://127.0.0.1:2380"


def command_lines() -> dict[str, list[str]]:
    """Return component -> arguments (without the program itself), with the paths that the components see."""
    return {name: [f"--{key}={value}" for key, value in flags.items()] for name, flags in _flags().items()}


def environment(paths: Mapping[str, Path]) -> dict[str, str]:
    """Return the components' environment; ``paths`` are the assets by name."""
    directories = dict.fromkeys(
        str(path if path.is_dir() else path.parent) for name, path in sorted(paths.items()) if name != "cni"
    )
    return {
        "PATH": ":".join([*directories, "/usr/local/sbin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"]),
        "HOME": str(INSIDE),
        # Fewer collections: a third off the time of many writes, for some more memory.
        "GOGC": "400",
    }


def _flags() -> dict[str, dict[str, object]]:
    return {
        "etcd": {
            "data-dir": INSIDE / "etcd",
            "listen-client-urls": _ETCD,
            "advertise-client-urls": _ETCD,
            "listen-peer-urls": _ETCD_PEER,
            "initial-advertise-peer-urls": _ETCD_PEER,
            "initial-cluster": f"default={_ETCD_PEER}",
            "unsafe-no-fsync": "true",  # nothing here outlives the machine's memory
            "log-level": "warn",
        },
        "containerd": {"config": INSIDE / "config" / "containerd.toml"},
        "kube-apiserver": {
            "etcd-servers": _ETCD,
            "bind-address": "0.0.0.0",  # noqa: S104 - of a network namespace that nothing outside reaches
            "secure-port": API_PORT,
            "advertise-address": NODE_IP,
            "service-cluster-ip-range": SERVICE_CIDR,
            "authorization-mode": "Node,RBAC",
            "enable-admission-plugins": "NodeRestriction",
            "allow-privileged": "true",
            "client-ca-file": _PKI / "ca.crt",
            "tls-cert-file": _PKI / "apiserver.crt",
            "tls-private-key-file": _PKI / "apiserver.key",
            "kubelet-certificate-authority": _PKI / "ca.crt",
            "kubelet-client-certificate": _PKI / "apiserver-kubelet-client.crt",
            "kubelet-client-key": _PKI / "apiserver-kubelet-client.key",
            "kubelet-preferred-address-types": "InternalIP,Hostname",
            "service-account-issuer": f"https://kubernetes.default.svc.{DOMAIN}",
            "service-account-key-file": _PKI / "sa.pub",
            "service-account-signing-key-file": _PKI / "sa.key",
            "requestheader-client-ca-file": _PKI / "front-proxy-ca.crt",
            "requestheader-allowed-names": "front-proxy-client",
            "requestheader-username-headers": "X-Remote-User",
            "requestheader-group-headers": "X-Remote-Group",
            "requestheader-extra-headers-prefix": "X-Remote-Extra-",
            "proxy-client-cert-file": _PKI / "front-proxy-client.crt",
            "proxy-client-key-file": _PKI / "front-proxy-client.key",
            "profiling": "false",
        },
        "kube-controller-manager": {
            **_controller("controller-manager"),
            "service-account-private-key-file": _PKI / "sa.key",
            "root-ca-file": _PKI / "ca.crt",
            "client-ca-file": _PKI / "ca.crt",
            "requestheader-client-ca-file": _PKI / "front-proxy-ca.crt",
            "cluster-signing-cert-file": _PKI / "ca.crt",
            "cluster-signing-key-file": _PKI / "ca.key",
            "use-service-account-credentials": "true",
            "allocate-node-cidrs": "true",
            "cluster-cidr": POD_CIDR,
            "node-cidr-mask-size": 24,
            "service-cluster-ip-range": SERVICE_CIDR,
            "enable-hostpath-provisioner": "true",
        },
        "kube-scheduler": _controller("scheduler"),
        "kubelet": {
            "config": INSIDE / "config" / "kubelet.json",
            "kubeconfig": _PKI / "kubelet.kubeconfig",
            "root-dir": INSIDE / "kubelet",
            "cert-dir": INSIDE / "kubelet" / "pki",
            "hostname-override": NODE,
            "node-ip": NODE_IP,
        },
        "kube-proxy": {"config": INSIDE / "config" / "kube-proxy.json"},
    }


def _controller(user: str) -> dict[str, object]:
    kubeconfig = _PKI / f"{user}.kubeconfig"
    return {
        "kubeconfig": kubeconfig,
        "authentication-kubeconfig": kubeconfig,
        "authorization-kubeconfig": kubeconfig,
        "bind-address": "127.0.0.1",
        "cert-dir": INSIDE / f"{user}-tls",
        "leader-elect": "false",  # there is one of each
        "kube-api-qps": 300,  # the default of 20 costs 5 s at start
        "kube-api-burst": 600,
        "profiling": "false",
    }


CTR = ("ctr", "--address", str(CONTAINERD_SOCKET), "--namespace", "k8s.io")
"""How a process inside the cluster calls containerd's client."""
