"""Reading and writing one tar that holds an OCI image layout.

Format: OCI image layout 1.0 (``oci-layout``, ``index.json``, ``blobs/sha256/...``) with docker's ``manifest.json``
beside it, so that ``ctr images import``, ``docker load`` and ``podman load`` all take it.
Same input, same bytes: no clock time, owner or order of the host gets in.
"""

import contextlib
import hashlib
import io
import json
import os
import platform
import posixpath
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, Self, cast

import msgspec

from k8s_e2e.base.errors import EnvironmentFailure

ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
CONFIG = "application/vnd.oci.image.config.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
# Layers stay uncompressed: archives never leave the machine, and unpacking gzip is most of an import's time.
LAYER = "application/vnd.oci.image.layer.v1.tar"
IMAGE_NAME = "io.containerd.image.name"
REF_NAME = "org.opencontainers.image.ref.name"


class Descriptor(msgspec.Struct, omit_defaults=True, rename="camel", kw_only=True):
    """A blob as manifests and indexes name it (OCI image-spec, descriptor.md)."""

    media_type: str
    digest: str
    size: int
    annotations: dict[str, str] = {}
    platform: dict[str, str] = {}


class Manifest(msgspec.Struct, rename="camel"):
    """An image's config and layers, bottom first."""

    config: Descriptor
    layers: list[Descriptor]

    @property
    def bytes(self) -> int:
        """Size of config and layers together."""
        return self.config.size + sum(layer.size for layer in self.layers)


class _Index(msgspec.Struct, rename="camel"):
    manifests: list[Descriptor]


def full_reference(reference: str) -> str:
    """Return ``reference`` with its registry and tag spelled out, as containerd stores it.

    ``acme/api:e2e`` is ``docker.io/acme/api:e2e``, ``pause`` is ``docker.io/library/pause:latest``.
    """
    first, slash, _ = reference.partition("/")
    if not slash:
        reference = f"docker.io/library/{reference}"
    elif not (first == "localhost" or "." in first or ":" in first):
        reference = f"docker.io/{reference}"
    return reference if ":" in reference.rsplit("/", 1)[-1] or "@" in reference else f"{reference}:latest"


def broken(path: Path, why: str) -> EnvironmentFailure:
    """Return the error for an archive that is not what it should be."""
    return EnvironmentFailure(f"image archive {path} cannot be used: {why}", hint="delete it to have it made again")


class TarReader:
    """A tar whose members are read by name, and which has a JSON index. Use as a context manager.

    Raises:
        EnvironmentFailure: absent, cut, or without that index.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with contextlib.ExitStack() as stack:
            try:
                self._tar = stack.enter_context(tarfile.open(path, "r:"))
                self._members = {posixpath.normpath(member.name): member for member in self._tar}
                self._read_index()
            except (OSError, tarfile.TarError, msgspec.DecodeError) as error:
                raise broken(path, str(error)) from error
            stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._tar.close()

    def _read_index(self) -> None:
        raise NotImplementedError

    def _open(self, name: str) -> IO[bytes]:
        member = self._members.get(posixpath.normpath(name))
        if member is not None and member.issym():  # relative to the link itself
            member = self._members.get(posixpath.normpath(posixpath.join(posixpath.dirname(name), member.linkname)))
        stream = self._tar.extractfile(member) if member else None
        if stream is None:
            raise broken(self.path, f"it has no {name}")
        return stream


class Archive(TarReader):
    """An OCI layout in a tar, for reading."""

    def _read_index(self) -> None:
        with self._open("index.json") as stream:
            self._index = msgspec.json.decode(stream.read(), type=_Index)

    def references(self) -> list[str]:
        """Return the full references of the images in here."""
        return [name for name in map(_name, self._index.manifests) if name]

    def manifest(self, reference: str) -> Manifest:
        """Return the manifest of one image.

        Raises:
            EnvironmentFailure: it is not in here, or broken.
        """
        wanted = full_reference(reference)
        described = next((item for item in self._index.manifests if _name(item) == wanted), None)
        if described is None:
            raise broken(self.path, f"it holds {', '.join(self.references()) or 'no image'}, not {wanted}")
        return msgspec.json.decode(self._blob(described), type=Manifest)

    def copy(self, reference: str, writer: "Writer") -> None:
        """Copy one image with those of its blobs that ``writer`` has not yet.

        Raises:
            EnvironmentFailure: it is not in here, or a blob is not what its digest says.
        """
        manifest = self.manifest(reference)
        for layer in manifest.layers:
            if not writer.has(layer.digest):
                with self._open(blob_path(layer.digest)) as stream:
                    writer.blob(layer, stream)
        writer.image(reference, self._blob(manifest.config), manifest.layers)

    def _blob(self, described: Descriptor) -> bytes:
        with self._open(blob_path(described.digest)) as stream:
            raw = stream.read()
        if digest_of(raw) != described.digest:
            raise broken(self.path, f"blob {described.digest} has other content than its name says")
        return raw


class Writer:
    """Writes one archive beside its final name, and renames it at the end of the ``with`` block."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self._seen: dict[str, int] = {}  # digest -> size
        self._index: list[Descriptor] = []
        self._docker: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        self._out.parent.mkdir(parents=True, exist_ok=True)
        handle, self._temporary = tempfile.mkstemp(prefix=f".{self._out.name}.", dir=self._out.parent)
        self._stream = os.fdopen(handle, "wb")
        self._tar = tarfile.open(fileobj=self._stream, mode="w", format=tarfile.GNU_FORMAT)
        self._add("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None:
                index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": msgspec.to_builtins(self._index)}
                self._add("index.json", encode(index))
                self._add("manifest.json", encode(self._docker))
                self._tar.close()
                self._stream.close()
                Path(self._temporary).chmod(0o644)
                Path(self._temporary).replace(self._out)
        finally:
            self._stream.close()
            Path(self._temporary).unlink(missing_ok=True)

    def has(self, digest: str) -> int:
        """Return the size of a blob that is in already, else 0."""
        return self._seen.get(digest, 0)

    def blob(self, described: Descriptor, stream: IO[bytes]) -> None:
        """Write one blob.

        Raises:
            EnvironmentFailure: it is shorter than ``described`` says, or of another digest.
        """
        hashing = _Hashing(stream)
        try:
            self._tar.addfile(tar_member(blob_path(described.digest), described.size), cast("IO[bytes]", hashing))
        except tarfile.TarError as error:
            raise broken(self._out, f"blob {described.digest} was cut short") from error
        if hashing.digest() != described.digest:
            raise broken(self._out, f"blob {described.digest} has other content than its name says")
        self._seen[described.digest] = described.size

    def image(self, reference: str, config: bytes, layers: Sequence[Descriptor]) -> str:
        """Write config (JSON) and manifest of an image whose layers are in; return the config's digest."""
        described = self._put(CONFIG, config)
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": msgspec.to_builtins(described),
            "layers": [msgspec.to_builtins(layer) for layer in layers],
        }
        name = full_reference(reference)
        settings = msgspec.json.decode(config)
        entry = self._put(MANIFEST, encode(manifest))
        entry.annotations = {IMAGE_NAME: name, REF_NAME: name}
        entry.platform = {"architecture": str(settings["architecture"]), "os": str(settings["os"])}
        self._index.append(entry)
        self._docker.append(
            {
                "Config": blob_path(described.digest),
                "RepoTags": [name],
                "Layers": [blob_path(layer.digest) for layer in layers],
            }
        )
        return described.digest

    def _put(self, media_type: str, raw: bytes) -> Descriptor:
        described = Descriptor(media_type=media_type, digest=digest_of(raw), size=len(raw))
        if not self.has(described.digest):
            self.blob(described, io.BytesIO(raw))
        return described

    def _add(self, name: str, raw: bytes) -> None:
        self._tar.addfile(tar_member(name, len(raw)), io.BytesIO(raw))


class _Hashing:
    """Hashes what is read through it."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._sha256 = hashlib.sha256()

    def read(self, size: int) -> bytes:
        raw = self._stream.read(size)
        self._sha256.update(raw)
        return raw

    def digest(self) -> str:
        return f"sha256:{self._sha256.hexdigest()}"


def tar_member(name: str, size: int, *, mode: int = 0o644) -> tarfile.TarInfo:
    """Return a member of root's, dated 1970, so that only name, mode and content decide the bytes."""
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, mode
    return member


def blob_path(digest: str) -> str:
    """Return where a layout keeps the blob of ``digest``.

    Raises:
        EnvironmentFailure: not a sha256 digest.
    """
    algorithm, _, value = digest.partition(":")
    if algorithm != "sha256" or not value.isalnum():
        raise EnvironmentFailure(f"not a sha256 digest: {digest!r}")
    return f"blobs/sha256/{value}"


def digest_of(raw: bytes) -> str:
    """Return the digest of ``raw``, ``sha256:...``."""
    return f"sha256:{hashlib.sha256(raw).hexdigest()}"


def encode(value: Any) -> bytes:
    """Write ``value`` as JSON, the same bytes each time."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _name(described: Descriptor) -> str:
    name = described.annotations.get(IMAGE_NAME) or described.annotations.get(REF_NAME, "")
    return full_reference(name) if name else ""
