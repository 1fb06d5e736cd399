"""OCI images without a container engine: made from files, taken from an engine's archives, joined into one archive."""

import hashlib
import os
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import IO

import msgspec

from k8s_e2e.base.errors import EnvironmentFailure
from k8s_e2e.cluster.docker_archive import DockerArchive
from k8s_e2e.cluster.oci_archive import (
    ARCHITECTURE,
    LAYER,
    Archive,
    Descriptor,
    Writer,
    encode,
    full_reference,
    tar_member,
)

__all__ = ["BuiltImage", "full_reference", "merge", "repack", "single_binary_image", "stored"]


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


def single_binary_image(
    out: Path,
    reference: str,
    entrypoint: Sequence[str],
    files: Mapping[str, Path],
    *,
    user: str = "65532",
    env: Mapping[str, str] | None = None,
) -> BuiltImage:
    """Write an image with one layer that holds ``files`` (absolute path in the image -> file here) and a ``/tmp``.

    Executable files stay executable; everything belongs to root and is not writable by ``user`` (numeric).

    Raises:
        EnvironmentFailure: a file cannot be read.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(prefix=".layer-", dir=out.parent) as layer:
        try:
            _write_layer(layer, files)
        except OSError as error:
            message = f"cannot put {error.filename} into image {reference}: {error.strerror}"
            raise EnvironmentFailure(message) from error
        size = layer.tell()
        layer.seek(0)
        diff_id = f"sha256:{hashlib.file_digest(layer, 'sha256').hexdigest()}"
        layer.seek(0)
        variables = {"PATH": "/usr/bin:/bin", **(env or {})}
        config = {
            "architecture": ARCHITECTURE,
            "os": "linux",
            "config": {
                "User": user,
                "Entrypoint": list(entrypoint),
                "Env": [f"{name}={value}" for name, value in variables.items()],
                "WorkingDir": "/",
            },
            "rootfs": {"type": "layers", "diff_ids": [diff_id]},
        }
        described = Descriptor(media_type=LAYER, digest=diff_id, size=size)
        with Writer(out) as writer:
            writer.blob(described, layer)
            writer.image(reference, encode(config), [described])
    return stored(out, [reference], source="built")[0]


def merge(images: Sequence[BuiltImage], out: Path) -> Path:
    """Write ``images`` into one archive at ``out``; a blob that several of them have is written once.

    Raises:
        EnvironmentFailure: an archive is absent or broken, or does not hold the image it is said to hold.
    """
    with Writer(out) as writer:
        for image in images:
            with Archive(image.archive) as source:
                source.copy(image.reference, writer)
    return out


def repack(archives: Sequence[Path], references: Sequence[str], out: Path) -> list[BuiltImage]:
    """Write the images of ``docker save`` or buildah archives into one archive; layers are shared, and uncompressed.

    ``references[i]`` is taken from ``archives[i]``.

    Raises:
        EnvironmentFailure: an archive is absent or broken, or holds another image.
    """
    with Writer(out) as writer:
        for archive, reference in zip(archives, references, strict=True):
            with DockerArchive(archive) as source:
                source.copy(reference, writer)
    return stored(out, references, source="built")


def stored(archive: Path, references: Sequence[str], *, source: str) -> list[BuiltImage]:
    """Return ``references`` as they are in ``archive``.

    Raises:
        EnvironmentFailure: the archive is absent or broken, or one of them is not in it.
    """
    with Archive(archive) as opened:
        manifests = [(reference, opened.manifest(reference)) for reference in references]
    return [
        BuiltImage(
            reference=reference,
            digest=manifest.config.digest,
            bytes=manifest.bytes,
            archive=archive,
            source=source,
        )
        for reference, manifest in manifests
    ]


def _write_layer(stream: IO[bytes], files: Mapping[str, Path]) -> None:
    inside = {PurePosixPath("/", destination).relative_to("/"): source for destination, source in files.items()}
    directories = {parent for path in inside for parent in path.parents} | {PurePosixPath("tmp")}
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT) as layer:
        for directory in sorted(directories - {PurePosixPath()}):
            member = tar_member(str(directory), 0, mode=0o1777 if str(directory) == "tmp" else 0o755)
            member.type = tarfile.DIRTYPE
            layer.addfile(member)
        for path, source in sorted(inside.items()):
            with source.open("rb") as content:
                status = os.fstat(content.fileno())
                mode = 0o755 if status.st_mode & 0o111 else 0o644
                layer.addfile(tar_member(str(path), status.st_size, mode=mode), content)
