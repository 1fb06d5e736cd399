"""A cluster that exists already, by the user's own kubeconfig: nothing of it is made, loaded or removed here.

A cluster's name is the name of its context. What a run leaves in such a cluster is `platform.removal`'s affair.
"""

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

from k8s_e2e.base import files, process
from k8s_e2e.base.errors import EnvironmentFailure, UsageError
from k8s_e2e.base.progress import Progress, silent
from k8s_e2e.cluster import kubeconfig
from k8s_e2e.cluster.bundles import KUBERNETES
from k8s_e2e.cluster.kubectl import own as kits_kubectl
from k8s_e2e.cluster.provider import EXISTING, Cluster, LoadedImage
from k8s_e2e.model.settings import Settings

_READ_S = 10.0
_ANSWER_S = 30.0  # a plugin may ask somebody for a token first
_SKEW = 1  # minor versions between kubectl and API server that Kubernetes supports


class ExistingProvider:
    """The contexts of the kubeconfig that kubectl would use."""

    name = EXISTING
    loads = False
    pulls = True

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._copies = settings.state_dir / EXISTING

    def up(self, name: str, *, control_plane_only: bool = False, progress: Progress) -> Cluster:  # noqa: ARG002
        """Attach: it is up, or there is nothing that the kit could do; see `Provider.up`."""
        return self.attach(name)

    def attach(self, name: str) -> Cluster:
        """Return the cluster of context ``name``, of the current context if it is empty; see `Provider.attach`.

        Raises:
            UsageError: no kubeconfig, no such context, or an unnamed one that looks like production.
            EnvironmentFailure: it does not answer.
        """
        program = kubectl(self._settings)
        sources = kubeconfig.files()
        context = kubeconfig.chosen(_view(program, sources), name)
        config = sources[0] if len(sources) == 1 else self._flattened(program, sources, context)
        asked: list[str | Path] = [program, "--kubeconfig", config, "--context", context.name]
        versions = _versions(asked, context)
        server = str(versions["serverVersion"]["gitVersion"]).removeprefix("v")
        return Cluster(
            name=context.name,
            provider=self.name,
            kubeconfig=config,
            context=context.name,
            versions={"kubernetes": server},
            kubectl=self._fitting(program, versions),
            server=context.server,
            uid=_uid(asked),
        )

    def load(self, name: str, archive: Path, *, progress: Progress) -> None:  # noqa: ARG002
        """Refuse: images come from a registry; see `Provider.load`."""
        raise EnvironmentFailure(f"no image can be loaded into the nodes of {name}", hint="push it to a registry")

    def images(self, name: str) -> list[LoadedImage]:
        """Refuse: only the nodes know; see `Provider.images`."""
        raise EnvironmentFailure(f"the images in the nodes of {name} cannot be listed")

    def component_logs(
        self,
        name: str,  # noqa: ARG002 - they are not ours to read
        scratch: Path,  # noqa: ARG002 - they are not ours to read
        *,
        timeout_s: float,  # noqa: ARG002 - they are not ours to read
    ) -> dict[str, Path]:
        """Return nothing: the components of somebody else's cluster are not ours; see `Provider.component_logs`."""
        return {}

    def down(self, name: str, *, progress: Progress) -> None:  # noqa: ARG002 - nothing to tell
        """Forget the copy of the kubeconfig, if one was made; the cluster and all in it stay. See `Provider.down`."""
        shutil.rmtree(self._copy(name).parent, ignore_errors=True)

    def _flattened(self, program: Path, sources: list[Path], context: kubeconfig.Context) -> Path:
        """Write what several files say of one context into one file of our own: relative paths stay right."""
        argv: list[str | Path] = [
            program,
            "config",
            "view",
            "--raw",
            "--flatten",
            "--minify",
            "--context",
            context.name,
        ]
        done = process.run(argv, timeout_s=_READ_S, env={"KUBECONFIG": _joined(sources)})
        copy = self._copy(context.name)
        for directory in (self._copies, copy.parent):
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        files.write(copy, done.stdout, mode=0o600)
        return copy

    def _copy(self, name: str) -> Path:
        return self._copies / hashlib.sha256(name.encode()).hexdigest()[:16] / "kubeconfig"

    def _fitting(self, program: Path, versions: dict[str, Any]) -> Path:
        """Return ``program`` where it is as new as the server, else the kit's own if that comes closer."""
        client, server = (_minor(versions[side]["gitVersion"]) for side in ("clientVersion", "serverVersion"))
        own = _minor(KUBERNETES)
        if abs(client - server) <= _SKEW or abs(own - server) >= abs(client - server):
            return program
        try:
            return _own(self._settings)
        except EnvironmentFailure:  # an older one may do, too
            return program


def kubectl(settings: Settings) -> Path:
    """Return a kubectl: the user's own, else the kit's.

    Raises:
        EnvironmentFailure: there is none, and none can be had.
    """
    found = shutil.which("kubectl")
    return Path(found) if found else _own(settings)


def _own(settings: Settings) -> Path:
    return kits_kubectl(settings, silent)


def _view(program: Path, sources: list[Path]) -> dict[str, Any]:
    """Return contexts and clusters of the kubeconfig, credentials left out by kubectl."""
    argv: list[str | Path] = [program, "config", "view", "-o", "json"]
    try:
        done = process.run(argv, timeout_s=_READ_S, env={"KUBECONFIG": _joined(sources)})
        view: dict[str, Any] = json.loads(done.stdout)
    except (process.ProgramFailed, ValueError) as error:
        message = f"kubectl cannot read the kubeconfig {_joined(sources)}: {error}"
        raise UsageError(message) from error
    return view


def _versions(asked: list[str | Path], context: kubeconfig.Context) -> dict[str, Any]:
    done = process.run([*asked, "version", "-o", "json"], timeout_s=_ANSWER_S, check=False)
    try:
        said: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        said = {}
    if "serverVersion" not in said:
        why = process.tail(done.stderr, 3) or f"kubectl version exited with {done.code}"
        message = f"the cluster of context {context.name!r} does not answer: {why}"
        raise EnvironmentFailure(message, hint=f"`kubectl --context {context.name} version` must work")
    return said


def _uid(asked: list[str | Path]) -> str:
    """Return what tells this cluster from any other; nothing where it may not be read."""
    words = ["get", "namespace", "kube-system", "-o", "jsonpath={.metadata.uid}"]
    done = process.run([*asked, *words], timeout_s=_ANSWER_S, check=False)
    return done.stdout.strip() if done.code == 0 else ""


def _joined(sources: list[Path]) -> str:
    return os.pathsep.join(map(str, sources))


def _minor(version: str) -> int:
    digits = version.split(".")[1]
    return int("".join(char for char in digits if char.isdigit()) or 0)
