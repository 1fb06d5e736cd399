"""Every binary a run needs, from the first source that has it: a directory, the cache, a download, a build, Debian.

A cache entry is ``<cache>/assets/<bundle>-<key>/`` with ``bundle.json`` beside the programs. It appears by one rename
when it is complete, is checked each time it is used, and is made again when it is damaged.
"""

import contextlib
import hashlib
import os
import shutil
import time
from collections.abc import Iterable
from pathlib import Path

import msgspec

from k8s_e2e.base import files
from k8s_e2e.base.errors import EnvironmentFailure, UsageError
from k8s_e2e.base.lock import locked
from k8s_e2e.base.progress import Progress
from k8s_e2e.cluster import bundles
from k8s_e2e.cluster.asset_sources import SCRATCH, Sources
from k8s_e2e.cluster.bundles import Bundle
from k8s_e2e.model.settings import Settings

_RECORD = "bundle.json"
_SCRATCH_KEPT_S = 24 * 3600.0
_KEPT_S = 30 * 24 * 3600.0


class _File(msgspec.Struct, frozen=True):
    """What a file of a cache entry was when the entry was made."""

    sha256: str
    bytes: int
    mtime_ns: int


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """``bundle.json``: where a cache entry came from and what is in it."""

    source: str  # download, build, debian, system
    versions: dict[str, str]
    files: dict[str, _File]


class Assets(msgspec.Struct, frozen=True, kw_only=True):
    """Where the asked-for binaries are; ``sources`` says how each was had this time."""

    paths: dict[str, Path]
    versions: dict[str, str]
    sources: dict[str, str]  # directory, cache, download, build, debian, system

    def path(self, name: str) -> Path:
        """Return the file (for ``cni`` and ``netfilter``: the directory) called ``name``."""
        return self.paths[name]


def ensure(names: Iterable[str], settings: Settings, progress: Progress) -> Assets:
    """Return the binaries called ``names``, fetching or building what is not there yet.

    Raises:
        UsageError: a name is unknown, or ``settings.bin_dir`` is no directory.
        EnvironmentFailure: a binary cannot be had; the message says what each source answered.
    """
    if settings.bin_dir and not settings.bin_dir.is_dir():
        raise UsageError(f"K8S_E2E_BIN_DIR={settings.bin_dir} is no directory")
    _forget_old_scratch(settings)
    found = Assets(paths={}, versions={}, sources={})
    wanted: dict[str, list[str]] = {}
    for name in names:
        try:
            bundle = bundles.bundle_of(name)
        except KeyError:
            known = ", ".join(sorted(asset for each in bundles.BUNDLES for asset in each.provides))
            raise UsageError(f"there is no asset {name!r}", hint=f"known: {known}") from None
        given = settings.bin_dir / name if settings.bin_dir else None
        if given and given.exists():
            found.paths[name] = given.absolute()
            found.versions[name] = bundle.versions.get(name, "")
            found.sources[name] = "directory"
        else:
            wanted.setdefault(bundle.name, []).append(name)
    if settings.bin_dir and wanted:
        absent = ", ".join(sorted(name for names in wanted.values() for name in names))
        progress(f"{settings.bin_dir} has no {absent}: looking elsewhere")
    for bundle in bundles.BUNDLES:
        if bundle.name in wanted:
            home, record, source = obtain(bundle, settings, progress)
            for name in wanted[bundle.name]:
                found.paths[name] = home / bundle.provides[name]
                found.versions[name] = record.versions.get(name, bundle.versions.get(name, ""))
                found.sources[name] = source
    return found


def cached(name: str, settings: Settings) -> Record | None:
    """Return the record of the sound cache entry that holds ``name``; None where there is none."""
    home = home_of(bundles.bundle_of(name), settings)
    record = _read(home)
    return record if record and not _damage(home, record) else None


def home_of(bundle: Bundle, settings: Settings) -> Path:
    """Return the directory of the bundle's cache entry."""
    return settings.cache_dir.absolute() / "assets" / bundles.key(bundle)


def obtain(bundle: Bundle, settings: Settings, progress: Progress) -> tuple[Path, Record, str]:
    """Return the cache entry of a bundle, which is made if need be, what is in it, and how it was had this time.

    Raises:
        EnvironmentFailure: it cannot be had; the message says what each source answered.
    """
    home = home_of(bundle, settings)
    if record := _usable(home, progress):
        return home, record, "cache"
    lock = home.with_name(f".{home.name}.lock")
    with locked(lock, what=f"making {home.name}", timeout_s=settings.build_timeout_s, progress=progress):
        if record := _usable(home, progress):  # another process made it meanwhile
            return home, record, "cache"
        return home, *_make(bundle, home, settings, progress)


def _make(bundle: Bundle, home: Path, settings: Settings, progress: Progress) -> tuple[Record, str]:
    refused: list[str] = []
    sources = Sources(bundle, settings, progress, still_to_build=_still_to_build(bundle, settings))
    for source, fill in sources.in_order():
        work = home.with_name(f".{home.name}.new")
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        try:
            versions = {**bundle.versions, **fill(work)}
            record = store(work, home, source=source, versions=versions)
            _prune(home, bundle)
            return record, source  # noqa: TRY300 - the loop goes on only after an error
        except (EnvironmentFailure, OSError) as error:  # a full disk, too
            refused.append(f"{source}: {error}")
            progress(f"{bundle.name}: no {source} ({str(error).splitlines()[0]})")
        finally:
            shutil.rmtree(work, ignore_errors=True)
    raise EnvironmentFailure(
        f"cannot get {bundle.name} ({', '.join(bundle.provides)}): {'; '.join(refused) or 'no source is allowed'}",
        hint="`k8s-e2e doctor` says what is missing and how to mend it",
    )


def store(work: Path, home: Path, *, source: str, versions: dict[str, str]) -> Record:
    """Make a filled directory the cache entry ``home``, by one rename."""
    entries = {
        str(path.relative_to(work)): _describe(path)
        for path in sorted(work.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }
    record = Record(source=source, versions=versions, files=entries)
    files.write_json(work / _RECORD, record)
    if home.exists():  # a damaged entry
        shutil.rmtree(home)
    work.rename(home)
    return record


def _prune(home: Path, bundle: Bundle) -> None:
    """Delete entries of the same bundle (older versions) that nobody has used for a while."""
    for entry in home.parent.glob(f"{bundle.name}-*"):
        with contextlib.suppress(OSError):
            if entry != home and time.time() - (entry / _RECORD).stat().st_mtime > _KEPT_S:
                shutil.rmtree(entry)


def _still_to_build(done: Bundle, settings: Settings) -> bool:
    others = [each for each in bundles.BUNDLES if each.build and each != done and each.provider == done.provider]
    return any(_read(home_of(each, settings)) is None for each in others)


def _forget_old_scratch(settings: Settings) -> None:
    """Delete Go's build cache if the builds that it was kept for did not come."""
    scratch = settings.cache_dir.absolute() / "assets" / SCRATCH
    with contextlib.suppress(OSError):
        if time.time() - scratch.stat().st_mtime > _SCRATCH_KEPT_S:
            shutil.rmtree(scratch)


def _usable(home: Path, progress: Progress) -> Record | None:
    record = _read(home)
    damage = _damage(home, record) if record else ""
    if record and not damage:
        with contextlib.suppress(OSError):  # a cache that is only read
            os.utime(home / _RECORD)
    if damage:
        progress(f"cache entry {home} is damaged ({damage}): made again")
        return None
    return record


def _read(home: Path) -> Record | None:
    try:
        return msgspec.json.decode((home / _RECORD).read_bytes(), type=Record)
    except (OSError, msgspec.DecodeError):
        return None


def _damage(home: Path, record: Record) -> str:
    """Say what is wrong with an entry. Content is hashed again only where size is right but the time is not."""
    for name, known in record.files.items():
        path = home / name
        try:
            status = path.stat()
        except OSError as error:
            return f"{name}: {error.strerror}"
        if status.st_size != known.bytes:
            return f"{name} has {status.st_size} bytes, not {known.bytes}"
        if status.st_mtime_ns != known.mtime_ns:
            if _describe(path).sha256 != known.sha256:
                return f"{name} has other content"
            os.utime(path, ns=(known.mtime_ns, known.mtime_ns))
    return ""


def _describe(path: Path) -> _File:
    status = path.stat()
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return _File(digest, status.st_size, status.st_mtime_ns)
