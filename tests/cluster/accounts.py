"""A ServiceAccount that may do what some YAML grants it, and nothing else, as a kubeconfig."""

from pathlib import Path
from typing import Any

import yaml


def kubeconfig(
    kubectl: Any, roles: list[dict[str, Any]], account: str, namespace: str, path: Path, context: str
) -> Path:
    """Make ``account`` in ``namespace``, apply ``roles``, and write a kubeconfig with a token of it to ``path``."""
    kubectl("create", "serviceaccount", account, "-n", namespace)
    kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(roles))
    admin = yaml.safe_load(Path(kubectl.argv[2]).read_text())
    token = kubectl("create", "token", account, "-n", namespace, "--duration=1h").strip()
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "site", "cluster": admin["clusters"][0]["cluster"]}],
        "users": [{"name": account, "user": {"token": token}}],
        "contexts": [{"name": context, "context": {"cluster": "site", "user": account, "namespace": namespace}}],
        "current-context": context,
    }
    path.write_text(yaml.safe_dump(config))
    path.chmod(0o600)
    return path
