"""All that is written into a cluster's directory before its first process: keys, configuration, the boot plan."""

import os
import shutil
import sys
from pathlib import Path
from typing import Any

from k8s_e2e.base import files
from k8s_e2e.cluster import machine
from k8s_e2e.cluster.assets import Assets
from k8s_e2e.cluster.local import addons, components, configuration, pki
from k8s_e2e.cluster.local.layout import API_PORT, INSIDE, NODE_IP, ClusterDir
from k8s_e2e.model.settings import Settings

SOURCE = Path(__file__).resolve().parents[3]
"""Where the kit's packages are: the launcher imports from here, too."""
_MEMORY_FOR_IMAGES = 6e9  # the platform's images and their unpacked layers are 0.6 GB


def prepare(directory: ClusterDir, assets: Assets, settings: Settings, *, port: int, control_plane_only: bool) -> None:
    """Fill ``directory``; ``port`` is where the host's loopback leads to the API server."""
    for path in (directory.root, directory.config, directory.logs, directory.pod_logs):
        path.mkdir(mode=0o700, parents=True)
    name = directory.root.name
    authority = pki.write(directory.pki, server=f"https://{NODE_IP}:{API_PORT}")
    admin = pki.issue(authority, *pki.USERS["admin"])
    kubeconfig = pki.kubeconfig(authority, admin, server=f"https://127.0.0.1:{port}", name=name)
    files.write(directory.kubeconfig, kubeconfig, mode=0o600)
    plan = _control_plane(assets, settings)
    if not control_plane_only:
        plan |= _node(directory, assets, settings)
    files.write_json(directory.boot, plan, mode=0o600)


def _control_plane(assets: Assets, settings: Settings) -> dict[str, Any]:
    return {
        "commands": _commands(components.CONTROL_PLANE, assets),
        "environment": components.environment(assets.paths),
        "component_timeout_s": settings.component_timeout_s,
        "needs": _needed(assets),
        "images_in_memory": False,
        "addons": [],
        "images": [],
    }


def _node(directory: ClusterDir, assets: Assets, settings: Settings) -> dict[str, Any]:
    runc, plugins = assets.path("runc"), assets.path("cni")
    configuration.write(directory.config, cgroup=directory.cgroup, runc=runc, cni_plugins=plugins)
    archive = addons.image_archive(assets, settings.cache_dir)
    images = directory.config / "images.tar"
    if archive.stat().st_dev == directory.config.stat().st_dev:
        os.link(archive, images)
    else:
        shutil.copy(archive, images)
    return {
        "commands": _commands(components.CONTROL_PLANE + components.NODE_PROGRAMS, assets),
        "images_in_memory": machine.available_memory() > _MEMORY_FOR_IMAGES,
        "addons": addons.objects(),
        "images": [str(INSIDE / "config" / images.name)],
    }


def _commands(names: tuple[str, ...], assets: Assets) -> dict[str, list[str]]:
    lines = components.command_lines()
    return {name: [str(assets.path(name)), *lines[name]] for name in names}


def _needed(assets: Assets) -> list[str]:
    """Return the host's directories that must stay visible: programs (links resolved, too) and this Python."""
    programs = {each for path in assets.paths.values() for each in (path, path.resolve())}
    directories = {path.parent for path in programs}  # of a directory, too: nft's libraries lie beside its bin/
    return sorted(map(str, directories | {Path(sys.prefix), Path(sys.base_prefix), SOURCE}))
