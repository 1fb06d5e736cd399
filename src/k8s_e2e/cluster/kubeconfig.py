"""The user's own kubeconfig: its files, the context that is meant, and whether that one looks like production."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from k8s_e2e.base.errors import UsageError

_PRODUCTION = re.compile(r"(?<![a-z])(production|prod|prd|live)(?![a-z])", re.IGNORECASE)


class Context(NamedTuple):
    """One context of a kubeconfig; ``server`` is the URL of its API server."""

    name: str
    cluster: str
    server: str


def files(environment: Mapping[str, str] = os.environ) -> list[Path]:
    """Return the kubeconfig files that kubectl would read, in its order.

    Those of KUBECONFIG that are there, or the one of the home directory.

    Raises:
        UsageError: there is none.
    """
    named = [Path(part) for part in environment.get("KUBECONFIG", "").split(os.pathsep) if part]
    places = [path.absolute() for path in named or [Path.home() / ".kube" / "config"]]
    found = list(dict.fromkeys(path for path in places if path.is_file()))
    if not found:
        message = f"there is no kubeconfig: {', '.join(map(str, places))}"
        raise UsageError(message, hint="name yours in the environment variable KUBECONFIG")
    return found


def chosen(view: Mapping[str, Any], name: str) -> Context:
    """Return the context ``name`` of a kubeconfig (as ``kubectl config view -o json`` prints it), or the current one.

    Raises:
        UsageError: there is no such context or no current one, it names no cluster, or nobody named it and it looks
            like production.
    """
    contexts = {entry["name"]: entry.get("context") or {} for entry in view.get("contexts") or ()}
    known = f"contexts: {', '.join(sorted(contexts)) or 'none'}"
    wanted = name or view.get("current-context") or ""
    if not wanted:
        raise UsageError("the kubeconfig has no current context", hint=f"name one by --cluster; {known}")
    if wanted not in contexts:
        raise UsageError(f"the kubeconfig has no context {wanted!r}", hint=known)
    cluster = str(contexts[wanted].get("cluster") or "")
    clusters = {entry["name"]: entry.get("cluster") or {} for entry in view.get("clusters") or ()}
    server = str((clusters.get(cluster) or {}).get("server") or "")
    if not server:
        raise UsageError(f"context {wanted!r} of the kubeconfig has no cluster with a server (cluster {cluster!r})")
    context = Context(wanted, cluster, server)
    if not name and (suspicion := production(context)):
        message = f"the current context {wanted!r} looks like production: {suspicion}"
        raise UsageError(message, hint=f"name it ({wanted}) if it is meant; {known}")
    return context


def production(context: Context) -> str:
    """Say what of a context looks like production: prod, production, prd or live as a word of its own; else nothing."""
    host = urlsplit(context.server).hostname or context.server
    for what, text in (("its name", context.name), ("its cluster", context.cluster), ("its server", host)):
        if found := _PRODUCTION.search(text):
            return f"{found[0]!r} in {what} {text!r}"
    return ""
