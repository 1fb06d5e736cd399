"""OCI image archives: written from files, joined into one, read back; without a container engine.

Format: OCI image layout 1.0 in a tar (``oci-layout``, ``index.json``, ``blobs/sha256/...``), with docker's
``manifest.json`` beside it, so that ``ctr images import``, ``docker load`` and ``podman load`` all take it.
Same input, same bytes: no clock time, owner or order of the host gets in.
"""

import hashlib
import io
import json
import os
import platform
import posixpath
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import IO, Any

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
_CHUNK = 1 << 20


class BuiltImage(msgspec.Struct, frozen=True, kw_only=True):
    """One image inside an archive that may hold several; ``reference`` is the one that pods use.

    ``digest`` is the config's (``sha256:...``: what kubelets call the image's id), ``bytes`` the size of its config
    and layers in the archive, ``source`` one of built, cached, official.
    """

    reference: str
    digest: str
    bytes: int
    archive: Path
    source: str


class Descriptor(msgspec.Struct, omit_defaults=True, rename="camel", kw_only=True):
    """A blob as manifests and indexes name it (OCI image-spec, descriptor.md)."""

    media_type: str
    digest: str
    size: int
    annotations: dict[str, str] = {}
    platform: dict[str, str] = {}


class _Manifest(msgspec.Struct, rename="camel"):
    config: Descriptor
    layers: list[Descriptor]


class _Index(msgspec.Struct, rename="camel"):
    manifests: list[Descriptor]


def full_reference(reference: str) -> str:
    """Return ``reference`` with its registry and tag spelled out, as containerd stores it.

    ``turbo/api:e2e`` is ``docker.io/turbo/api:e2e``, ``pause`` is ``docker.io/library/pause:latest``.
    """
    first, slash, _ = reference.partition("/")
    if not slash:
        reference = f"docker.io/library/{reference}"
    elif not (first == "localhost" or "." in first or ":" in first):
        reference = f"docker.io/{reference}"
    return reference if ":" in reference.rsplit("/", 1)[-1] or "@" in reference else f"{reference}:latest"


def single_binary_image(
    out: Path,
    reference: str,
    entrypoint: Sequence[str],
    files: Mapping[str, Path],
    *,
    user: str = "65532",
    env: Mapping[str, str] | None = None,
) -> BuiltImage:
    """Write an image with one layer that holds ``files`` (absolute path in the image -> file here) and a `/tmp`.

    Executable files stay executable; everything belongs to root and is not writable by ``user`` (numeric).

    Raises:
        EnvironmentFailure: a file cannot be read.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".oci-", dir=out.parent) as scratch:
        layer = Path(scratch, "layer")
        try:
            with layer.open("wb") as stream:
                _write_layer(stream, files)
        except OSError as error:
            message = f"cannot put {error.filename} into image {reference}: {error.strerror}"
            raise EnvironmentFailure(message) from error
        diff_id = file_digest(layer)
        config = {
            "architecture": ARCHITECTURE,
            "os": "linux",
            "config": {
                "User": user,
                "Entrypoint": list(entrypoint),
                "Env": [f"{name}={value}" for name, value in {"PATH": "/usr/bin:/bin", **(env or {})}.items()],
                "WorkingDir": "/",
            },
            "rootfs": {"type": "layers", "diff_ids": [diff_id]},
        }
        with _Writer(out) as writer:
            described = Descriptor(media_type=LAYER, digest=diff_id, size=layer.stat().st_size)
            with layer.open("rb") as stream:
                writer.blob(described, stream)
            digest = writer.image(reference, config, [described])
        size = described.size + len(_json(config))
    return BuiltImage(reference=reference, digest=digest, bytes=size, archive=out, source="built")


def merge(images: Sequence[BuiltImage], out: Path) -> Path:
    """Write ``images`` into one archive at ``out``; a blob that several of them have is written once.

    Raises:
        EnvironmentFailure: an archive is absent or broken, or does not hold the image it is said to hold.
    """
    with _Writer(out) as writer:
        for image in images:
            with Archive(image.archive) as source:
                source.copy(image.reference, writer)
    return out


def stored(archive: Path, references: Sequence[str], *, source: str) -> list[BuiltImage]:
    """Return ``references`` as they are in ``archive`` (a tar, or an OCI layout directory).

    Raises:
        EnvironmentFailure: the archive is absent or broken, or one of them is not in it.
    """
    with Archive(archive) as opened:
        found = []
        for reference in references:
            manifest = opened.manifest(reference)
            size = manifest.config.size + sum(layer.size for layer in manifest.layers)
            digest = manifest.config.digest
            found.append(BuiltImage(reference=reference, digest=digest, bytes=size, archive=archive, source=source))
        return found


class Archive:
    """An OCI layout, in a tar or a directory, for reading. Use as a context manager."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._tar: tarfile.TarFile | None = None
        self._members: dict[str, tarfile.TarInfo] = {}
        try:
            if not path.is_dir():
                self._tar = tarfile.open(path, "r:")  # noqa: SIM115 - closed by __exit__
                self._members = {posixpath.normpath(member.name): member for member in self._tar}
            with self._open("index.json") as stream:
                self._index = msgspec.json.decode(stream.read(), type=_Index)
        except (OSError, tarfile.TarError, msgspec.DecodeError) as error:
            raise self._broken(str(error)) from error

    def __enter__(self) -> "Archive":
        return self

    def __exit__(self, *_: object) -> None:
        if self._tar:
            self._tar.close()

    def references(self) -> list[str]:
        """Return the full references of the images in here."""
        return [name for name in map(_name, self._index.manifests) if name]

    def manifest(self, reference: str) -> _Manifest:
        """Return the manifest of one image.

        Raises:
            EnvironmentFailure: it is not in here, or broken.
        """
        wanted = full_reference(reference)
        described = next((item for item in self._index.manifests if _name(item) == wanted), None)
        if described is None:
            raise self._broken(f"it holds {', '.join(self.references()) or 'no image'}, not {wanted}")
        return msgspec.json.decode(self._blob(described), type=_Manifest)

    def copy(self, reference: str, writer: "_Writer") -> None:
        """Copy one image with all its blobs."""
        manifest = self.manifest(reference)
        config = msgspec.json.decode(self._blob(manifest.config))
        for layer in manifest.layers:
            if not writer.has(layer.digest):
                with self._open(_blob_path(layer.digest)) as stream:
                    writer.blob(layer, stream)
        writer.image(reference, config, manifest.layers, raw_config=self._blob(manifest.config))

    def _blob(self, described: Descriptor) -> bytes:
        with self._open(_blob_path(described.digest)) as stream:
            raw = stream.read()
        if _sha256(raw) != described.digest:
            raise self._broken(f"blob {described.digest} has other content than its name says")
        return raw

    def _open(self, name: str) -> IO[bytes]:
        if self._tar is None:
            return (self.path / name).open("rb")
        member = self._members.get(name)
        stream = self._tar.extractfile(member) if member else None
        if stream is None:
            raise self._broken(f"it has no {name}")
        return stream

    def _broken(self, why: str) -> EnvironmentFailure:
        return EnvironmentFailure(
            f"image archive {self.path} cannot be used: {why}", hint="delete it to have it rebuilt"
        )


class _Writer:
    """Writes one archive beside its final name, and renames it at the end."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self._seen: set[str] = set()
        self._index: list[Descriptor] = []
        self._docker: list[dict[str, Any]] = []

    def __enter__(self) -> "_Writer":
        self._out.parent.mkdir(parents=True, exist_ok=True)
        handle, self._temporary = tempfile.mkstemp(prefix=f".{self._out.name}.", dir=self._out.parent)
        self._stream = os.fdopen(handle, "wb")
        self._tar = tarfile.open(fileobj=self._stream, mode="w", format=tarfile.GNU_FORMAT, bufsize=_CHUNK)
        self._add("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None:
                index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": msgspec.to_builtins(self._index)}
                self._add("index.json", _json(index))
                self._add("manifest.json", _json(self._docker))
                self._tar.close()
        finally:
            self._stream.close()
            if kind is None:
                Path(self._temporary).chmod(0o644)
                Path(self._temporary).replace(self._out)
            else:
                Path(self._temporary).unlink(missing_ok=True)

    def has(self, digest: str) -> bool:
        """Say whether a blob is in already."""
        return digest in self._seen

    def blob(self, described: Descriptor, stream: IO[bytes]) -> None:
        """Write one blob of known digest and size."""
        member = _member(_blob_path(described.digest), described.size)
        self._tar.addfile(member, stream)
        self._seen.add(described.digest)

    def image(
        self, reference: str, config: Mapping[str, Any], layers: Sequence[Descriptor], *, raw_config: bytes = b""
    ) -> str:
        """Write config and manifest of an image whose layers are in; return the config's digest."""
        described = self._put(CONFIG, raw_config or _json(config))
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": msgspec.to_builtins(described),
            "layers": [msgspec.to_builtins(layer) for layer in layers],
        }
        name = full_reference(reference)
        entry = self._put(MANIFEST, _json(manifest))
        entry.annotations = {IMAGE_NAME: name, REF_NAME: name}
        entry.platform = {"architecture": str(config["architecture"]), "os": str(config["os"])}
        self._index.append(entry)
        self._docker.append(
            {
                "Config": _blob_path(described.digest),
                "RepoTags": [name],
                "Layers": [_blob_path(layer.digest) for layer in layers],
            }
        )
        return described.digest

    def _put(self, media_type: str, raw: bytes) -> Descriptor:
        described = Descriptor(media_type=media_type, digest=_sha256(raw), size=len(raw))
        if not self.has(described.digest):
            self.blob(described, io.BytesIO(raw))
        return described

    def _add(self, name: str, raw: bytes) -> None:
        self._tar.addfile(_member(name, len(raw)), io.BytesIO(raw))


def file_digest(path: Path) -> str:
    """Return a file's digest, ``sha256:...``."""
    with path.open("rb") as stream:
        return f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}"


def _write_layer(stream: IO[bytes], files: Mapping[str, Path]) -> None:
    inside = {PurePosixPath("/", destination).relative_to("/"): source for destination, source in files.items()}
    directories = {parent for path in inside for parent in path.parents} | {PurePosixPath("tmp")}
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT) as layer:
        for directory in sorted(directories - {PurePosixPath()}):
            member = _member(str(directory), 0, mode=0o1777 if str(directory) == "tmp" else 0o755)
            member.type = tarfile.DIRTYPE
            layer.addfile(member)
        for path, source in sorted(inside.items()):
            with source.open("rb") as content:
                status = os.fstat(content.fileno())
                mode = 0o755 if status.st_mode & 0o111 else 0o644
                layer.addfile(_member(str(path), status.st_size, mode=mode), content)


def _member(name: str, size: int, *, mode: int = 0o644) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, mode  # owner 0:0 and time 0 are TarInfo's defaults
    return member


def _name(described: Descriptor) -> str:
    name = described.annotations.get(IMAGE_NAME) or described.annotations.get(REF_NAME, "")
    return full_reference(name) if name else ""


def _blob_path(digest: str) -> str:
    algorithm, _, value = digest.partition(":")
    if algorithm != "sha256" or not value.isalnum():
        raise EnvironmentFailure(f"not a sha256 digest: {digest!r}")
    return f"blobs/sha256/{value}"


def _sha256(raw: bytes) -> str:
    return f"sha256:{hashlib.sha256(raw).hexdigest()}"


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
