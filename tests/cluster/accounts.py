"""A ServiceAccount that may do what some YAML grants it, and nothing else, as a kubeconfig."""

import json
from pathlib import Path
from typing import Any

import yaml

_EXEC = "client.authentication.k8s.io/v1"


def kubeconfig(
    kubectl: Any, roles: list[dict[str, Any]], account: str, namespace: str, path: Path, context: str
) -> Path:
    """Make ``account`` in ``namespace``, apply ``roles``, and write a kubeconfig to ``path``.

    Its token comes from a credential plugin, as most clouds have it.
    """
    kubectl("create", "serviceaccount", account, "-n", namespace)
    kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(roles))
    admin = yaml.safe_load(Path(kubectl.argv[2]).read_text())
    token = kubectl("create", "token", account, "-n", namespace, "--duration=1h").strip()
    credential = {"apiVersion": _EXEC, "kind": "ExecCredential", "status": {"token": token}}
    plugin = path.with_name(f"{path.name}-plugin")
    plugin.write_text(f"#!/bin/sh\nprintf '%s' '{json.dumps(credential)}'\n")
    plugin.chmod(0o700)
    exec_ = {"apiVersion": _EXEC, "command": str(plugin), "interactiveMode": "Never"}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "site", "cluster": admin["clusters"][0]["cluster"]}],
        "users": [{"name": account, "user": {"exec": exec_}}],
        "contexts": [{"name": context, "context": {"cluster": "site", "user": account, "namespace": namespace}}],
        "current-context": context,
    }
    path.write_text(yaml.safe_dump(config))
    path.chmod(0o600)
    return path
