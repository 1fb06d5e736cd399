"""The images of the node: loading archives into containerd and listing what is there."""

import json
from pathlib import Path
from typing import Any

from k8s_e2e.base import process
from k8s_e2e.base.errors import EnvironmentFailure, WaitTimeout
from k8s_e2e.base.wait import Pending, wait_for
from k8s_e2e.cluster.bundles import ARCHITECTURE
from k8s_e2e.cluster.local.layout import CONTAINERD_ROOT, CONTAINERD_SOCKET
from k8s_e2e.cluster.provider import LoadedImage

_LIST_S = 30.0
_KNOWN_S = 90.0
_SEEN = "io.cri-containerd.image"


class NodeImages:
    """The images of one cluster; containerd's socket and files are reached through PID 1's root directory."""

    def __init__(self, ctr: Path, pid1: int) -> None:
        inside = f"/proc/{pid1}/root"
        self._ctr = [str(ctr), "--address", f"{inside}{CONTAINERD_SOCKET}", "--namespace", "k8s.io"]
        self._blobs = Path(f"{inside}{CONTAINERD_ROOT}", "io.containerd.content.v1.content", "blobs", "sha256")

    def load(self, archive: Path, *, timeout_s: float) -> None:
        """Import every image of ``archive``; return when kubelet can use them.

        Raises:
            EnvironmentFailure: containerd refuses the archive, or is not done in time.
        """
        process.run([*self._ctr, "images", "import", archive], timeout_s=timeout_s)

        def missing() -> list[str]:
            names = (name for name in self._references() if not name.startswith(("sha256:", "import-")))
            return sorted({name for name in names if "@" not in name} - {image.reference for image in self.list()})

        def known() -> bool | Pending:
            unseen = missing()
            return Pending(f"kubelet does not see {', '.join(unseen)}") if unseen else True

        # A name that pointed at another image before keeps the mark of having been seen, and containerd 1.6 never looks
        # at it again; taking the mark off makes it look.
        for name in missing():
            process.run([*self._ctr, "images", "label", name, f"{_SEEN}="], timeout_s=_LIST_S)
        try:
            wait_for("loaded images to be usable", known, timeout_s=_KNOWN_S)
        except WaitTimeout as error:
            raise EnvironmentFailure(error.message) from error

    def list(self) -> list[LoadedImage]:
        """Return the images that kubelet can use, by reference.

        containerd's CRI plugin names an image by its config digest, too, once it can be used; an image without that
        second name is not there yet for kubelet.
        """
        references = self._references()
        usable = {name for name in references if name.startswith("sha256:")}
        found = []
        for name, target in sorted(references.items()):
            if name.startswith("sha256:") or "@" in name:
                continue
            manifest = self._manifest(target)
            digest = manifest["config"]["digest"]
            if digest in usable:
                size = sum(layer["size"] for layer in manifest["layers"])
                found.append(LoadedImage(reference=name, digest=digest, bytes=size))
        return found

    def _references(self) -> dict[str, str]:
        """Return name -> digest of what it points at, out of ``REF TYPE DIGEST SIZE PLATFORMS LABELS``."""
        rows = process.run([*self._ctr, "images", "list"], timeout_s=_LIST_S).stdout.splitlines()[1:]
        return {fields[0]: fields[2] for fields in map(str.split, rows) if len(fields) > 2}  # noqa: PLR2004

    def _manifest(self, digest: str) -> Any:
        document = json.loads(self._blob(digest))
        if "manifests" not in document:
            return document
        for entry in document["manifests"]:
            if entry.get("platform", {}).get("architecture", ARCHITECTURE) == ARCHITECTURE:
                return self._manifest(entry["digest"])
        raise EnvironmentFailure(f"image {digest} has nothing for {ARCHITECTURE}")

    def _blob(self, digest: str) -> bytes:
        path = self._blobs / digest.removeprefix("sha256:")
        try:
            return path.read_bytes()
        except OSError as error:
            raise EnvironmentFailure(f"the node's image store lacks {digest}: {error.strerror}") from error
