"""Reading what ``docker save`` and ``buildah push docker-archive:`` write.

Format: a tar with ``manifest.json`` (``[{"Config": path, "RepoTags": [...], "Layers": [path, ...]}]``). Engines differ:
layers may be links to one another (docker before 25), blobs of an OCI layout (docker since 25), or gzip (containerd's
image store). All become uncompressed layers whose digest is the config's diff_id.
A layer that another archive brought already may be missing.
"""

import gzip
import io
import tarfile
import tempfile
from pathlib import Path
from typing import IO, Any, cast

import msgspec

from k8s_e2e.cluster.oci_archive import LAYER, Descriptor, TarReader, Writer, broken, encode, full_reference, tar_member

_GZIP = b"\x1f\x8b"
_CHUNK = 1 << 20


class _Entry(msgspec.Struct, rename="pascal"):
    config: str
    layers: list[str]
    repo_tags: list[str] | None = None


class DockerArchive(TarReader):
    """One such tar, for reading."""

    def _read_index(self) -> None:
        with self._open("manifest.json") as stream:
            self._entries = msgspec.json.decode(stream.read(), type=list[_Entry])

    def copy(self, reference: str, writer: Writer) -> None:
        """Copy one image with those of its layers that ``writer`` has not yet.

        Raises:
            EnvironmentFailure: it is not in here, or a layer is not what the config says.
        """
        wanted = full_reference(reference)
        entry = next((entry for entry in self._entries if wanted in map(full_reference, entry.repo_tags or [])), None)
        if entry is None:
            tags = [tag for entry in self._entries for tag in entry.repo_tags or []]
            raise broken(self.path, f"it holds {', '.join(tags) or 'no tagged image'}, not {wanted}")
        config = self._open(entry.config).read()
        diff_ids: list[Any] = msgspec.json.decode(config)["rootfs"]["diff_ids"]
        if len(diff_ids) != len(entry.layers):
            raise broken(self.path, f"{wanted} has {len(entry.layers)} layers, its config says {len(diff_ids)}")
        layers = [self._layer(path, str(diff_id), writer) for path, diff_id in zip(entry.layers, diff_ids, strict=True)]
        writer.image(reference, config, layers)

    def _layer(self, path: str, diff_id: str, writer: Writer) -> Descriptor:
        if known := writer.has(diff_id):
            return Descriptor(media_type=LAYER, digest=diff_id, size=known)
        with self._open(path) as stream:
            packed = stream.read(len(_GZIP)) == _GZIP
            stream.seek(0)
            if not packed:
                size = stream.seek(0, 2)
                stream.seek(0)
                described = Descriptor(media_type=LAYER, digest=diff_id, size=size)
                writer.blob(described, stream)
                return described
            with tempfile.TemporaryFile(dir=self.path.parent) as plain:
                unpacked = cast("IO[bytes]", gzip.GzipFile(fileobj=stream))
                while chunk := unpacked.read(_CHUNK):
                    plain.write(chunk)
                size = plain.tell()
                plain.seek(0)
                described = Descriptor(media_type=LAYER, digest=diff_id, size=size)
                writer.blob(described, plain)
                return described


def write_config_only(out: Path, reference: str, config: bytes) -> None:
    """Write the archive of an image all of whose layers are in another archive."""
    diff_ids: list[str] = msgspec.json.decode(config)["rootfs"]["diff_ids"]
    entry = {"Config": "config.json", "RepoTags": [reference], "Layers": diff_ids}
    with tarfile.open(out, "w") as tar:
        for name, raw in (("config.json", config), ("manifest.json", encode([entry]))):
            tar.addfile(tar_member(name, len(raw)), io.BytesIO(raw))
