"""Official release files: fetched from their own hosts or a mirror, and used only when their checksum is right."""

import hashlib
import os
import shutil
import tarfile
import time
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from k8s_e2e.base import files
from k8s_e2e.base.errors import EnvironmentFailure
from k8s_e2e.base.http import Client, HTTPError, TransportError, internet_client
from k8s_e2e.base.progress import Progress
from k8s_e2e.cluster.bundles import Release

CONNECT_S = 3.0
_READ_S = 30.0
_ATTEMPTS = 3  # of one file; each resumes where the last one was cut
_CHUNK = 1 << 20
_PARTIAL = 206
_HEX_SHA256 = 64

_ELSEWHERE = "another K8S_E2E_CACHE_DIR"

_unreachable: dict[str, str] = {}  # host -> why; a host is given one chance in the life of a process


class Unreachable(EnvironmentFailure):
    """The host of a release does not answer at all."""


class ChecksumWrong(EnvironmentFailure):
    """What was fetched is not what its publisher says it is."""


def fetch(release: Release, into: Path, *, mirror_url: str, timeout_s: float, progress: Progress) -> None:
    """Fetch ``release``, verify it, and put its members into directory ``into``.

    Raises:
        Unreachable: its host does not answer within 3 s (remembered for the life of the process).
        ChecksumWrong: the content is not what the published checksum says; it was thrown away.
        DiskFull: no space left for it or its members.
        EnvironmentFailure: it is not there, was cut three times, or does not hold what it should.
    """
    url, checksum_url = (_mirrored(each, mirror_url) for each in (release.url, release.checksum_url))
    host = urlsplit(url).netloc
    if host in _unreachable:
        raise Unreachable(f"{host} does not answer ({_unreachable[host]})")
    name = url.rsplit("/", 1)[-1]
    target = into / f".{name}.part"
    deadline = time.monotonic() + timeout_s
    try:
        with (
            files.writing(into, instead=_ELSEWHERE),
            internet_client(connect_s=CONNECT_S, timeout_s=_READ_S) as client,
        ):
            into.mkdir(parents=True, exist_ok=True)
            wanted = _checksum(client, checksum_url, name)
            progress(f"downloading {name}")
            _transfer(client, url, target, deadline=deadline)
            got = _digest(target)
            if got != wanted:
                raise ChecksumWrong(
                    f"{url} has checksum {got}, not {wanted}, and was thrown away",
                    hint="ask whoever runs the mirror" if mirror_url else "try again, or set K8S_E2E_MIRROR_URL",
                )
        with files.writing(into, instead=_ELSEWHERE):
            _take(target, release.members, into)
    finally:
        target.unlink(missing_ok=True)


def _mirrored(url: str, mirror_url: str) -> str:
    return mirror_url.rstrip("/") + urlsplit(url).path if mirror_url else url


def _checksum(client: Client, url: str, name: str) -> str:
    """Read a published sha256: a bare digest, or the line of ``name`` in a list as sha256sum writes it."""
    try:
        reply = client.get(url)
        reply.raise_for_status()
    except TransportError as error:
        host = urlsplit(url).netloc
        _unreachable[host] = str(error) or type(error).__name__
        raise Unreachable(f"{host} does not answer ({_unreachable[host]})") from error
    except HTTPError as error:
        raise EnvironmentFailure(f"no checksum for {name}: {error}") from error
    for line in reply.text.splitlines():
        digest, _, listed = line.strip().partition(" ")
        known = not listed.strip() or PurePosixPath(listed.strip().lstrip("*")).name == name
        if known and len(digest) == _HEX_SHA256:
            return digest.lower()
    raise EnvironmentFailure(f"{url} names no checksum for {name}")


def _transfer(client: Client, url: str, target: Path, *, deadline: float) -> None:
    last = ""
    for _ in range(_ATTEMPTS):
        have = target.stat().st_size if target.exists() else 0
        headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={have}-"} if have else {})}
        try:
            with client.stream("GET", url, headers=headers) as reply:
                reply.raise_for_status()
                with target.open("ab" if reply.status_code == _PARTIAL else "wb") as stream:
                    for chunk in reply.iter_raw():
                        stream.write(chunk)
                        if time.monotonic() > deadline:
                            raise EnvironmentFailure(
                                f"{url} was not there in time ({target.stat().st_size} bytes came)",
                                hint="raise K8S_E2E_DOWNLOAD_TIMEOUT_S",
                            )
        except TransportError as error:
            last = str(error) or type(error).__name__
        except HTTPError as error:
            raise EnvironmentFailure(f"cannot fetch {url}: {error}") from error
        else:
            return
    raise EnvironmentFailure(f"{url} was cut {_ATTEMPTS} times: {last}")


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _take(file: Path, members: dict[str, str], into: Path) -> None:
    """Put a plain file, or members of a tar, where they belong; all of them are programs."""
    for member, destination in members.items():
        place = into / destination
        if not member:
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, place)
            place.chmod(0o755)
            continue
        try:
            with tarfile.open(file) as archive:
                wanted = [item for item in archive if item.isfile() and member in ("*", _clean(item.name))]
                if not wanted:
                    raise EnvironmentFailure(f"{file.name} holds no {member}")
                for item in wanted:
                    path = place / PurePosixPath(item.name).name if member == "*" else place
                    path.parent.mkdir(parents=True, exist_ok=True)
                    source = archive.extractfile(item)
                    assert source is not None
                    with path.open("wb") as stream:
                        shutil.copyfileobj(source, stream, _CHUNK)
                    path.chmod(0o755)
        except (tarfile.TarError, EOFError, OSError) as error:
            if isinstance(error, OSError) and error.errno in files.NO_ROOM:
                raise
            raise EnvironmentFailure(f"{file.name} is no usable archive: {error}") from error


def _clean(name: str) -> str:
    return os.path.normpath(name)
