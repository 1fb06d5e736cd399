"""The cluster's first objects and images: DNS, storage class, the sandbox of pods."""

import hashlib
from pathlib import Path
from typing import Any

import yaml

from k8s_e2e.base.data import data_dir
from k8s_e2e.cluster import oci
from k8s_e2e.cluster.assets import Assets
from k8s_e2e.cluster.bundles import COREDNS
from k8s_e2e.cluster.local.layout import PAUSE_IMAGE

COREDNS_IMAGE = f"registry.k8s.io/coredns/coredns:v{COREDNS}"
ASSETS = ("coredns", "pause")
_PLACES = {
    "ClusterRole": "/apis/rbac.authorization.k8s.io/v1/clusterroles",
    "ClusterRoleBinding": "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
    "StorageClass": "/apis/storage.k8s.io/v1/storageclasses",
    "ServiceAccount": "/api/v1/namespaces/{namespace}/serviceaccounts",
    "ConfigMap": "/api/v1/namespaces/{namespace}/configmaps",
    "Service": "/api/v1/namespaces/{namespace}/services",
    "Deployment": "/apis/apps/v1/namespaces/{namespace}/deployments",
}


def objects() -> list[dict[str, Any]]:
    """Return the first objects, each as ``{"path": where it is created, "object": it}``."""
    text = (data_dir() / "infra" / "local" / "addons.yaml").read_text().replace("COREDNS_IMAGE", COREDNS_IMAGE)
    found = []
    for item in yaml.load_all(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        path = _PLACES[item["kind"]].format(namespace=item["metadata"].get("namespace", ""))
        found.append({"path": path, "object": item})
    return found


def image_archive(assets: Assets, cache_dir: Path) -> Path:
    """Return an archive with the images of CoreDNS and pause, made once for each pair of binaries."""
    binaries = [assets.path(name) for name in ASSETS]
    described = [f"{path} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in binaries]
    key = hashlib.sha256("\n".join([COREDNS_IMAGE, PAUSE_IMAGE, *described]).encode()).hexdigest()[:12]
    archive = cache_dir.absolute() / "node-images" / f"{key}.tar"
    if not archive.exists():
        coredns, pause = binaries
        parts = [
            oci.single_binary_image(
                archive.with_name(f".{key}.coredns.tar"), COREDNS_IMAGE, ["/coredns"], {"/coredns": coredns}
            ),
            oci.single_binary_image(archive.with_name(f".{key}.pause.tar"), PAUSE_IMAGE, ["/pause"], {"/pause": pause}),
        ]
        oci.merge(parts, archive)
        for part in parts:
            part.archive.unlink()
    return archive
