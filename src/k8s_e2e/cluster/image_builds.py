"""One Dockerfile's images: found in the cache, or built one tag after the other and put there.

A cache entry is ``<cache>/images/<context>-<key>/``: one archive with all tags, and the output of each build.
It appears by one rename when it is complete.
"""

import shutil
import tempfile
import time
from pathlib import Path

from k8s_e2e.base import files, process
from k8s_e2e.base.errors import EnvironmentFailure
from k8s_e2e.base.progress import Progress, ticking
from k8s_e2e.cluster import apt, base_image, buildah, docker, oci
from k8s_e2e.cluster.build_key import build_key
from k8s_e2e.cluster.buildah import Buildah
from k8s_e2e.cluster.builder import Builder, Job
from k8s_e2e.cluster.docker import Docker
from k8s_e2e.cluster.oci import BuiltImage
from k8s_e2e.model.profile import ImageBuild
from k8s_e2e.model.settings import Settings

ARCHIVE = "images.tar"
_KEPT = 3  # entries of one Dockerfile or binary
_MB = 1e6


class ImageBuilds:
    """Builds Dockerfiles by docker where an engine answers, by buildah otherwise.

    Raises:
        EnvironmentFailure: an engine answers, but its client cannot build, and buildah cannot either.
    """

    def __init__(self, settings: Settings, *, logs: Path, progress: Progress) -> None:
        self._settings, self._logs, self._progress = settings, logs, progress
        self._docker = _engine(settings, progress)
        self._refused: set[str] = set()  # base images that cannot be pulled

    def images(self, build: ImageBuild, root: Path) -> list[BuiltImage]:
        """Return the images of one Dockerfile, whose context is relative to ``root``.

        Raises:
            UsageError: there is no such context or Dockerfile.
            EnvironmentFailure: there is no builder, or a build failed.
        """
        context = (root / build.context).resolve()
        key = build_key(context, build.dockerfile, build.tags, base="")  # refuses what is not there
        arguments, base = self._base((context / build.dockerfile).read_text("utf-8"))
        key = build_key(context, build.dockerfile, build.tags, base=base)
        home = self._settings.cache_dir.absolute() / "images" / f"{context.name}-{key}"
        if images := self._found(home, build):
            return images
        with self._docker or Buildah(self._settings, self._progress) as builder:  # one process at a time
            return self._found(home, build) or self._made(home, build, context, arguments, builder)

    def _base(self, dockerfile: str) -> tuple[dict[str, str], str]:
        """Return the build arguments that name the base images, and what identifies builder and base."""
        declares = base_image.declared(dockerfile)
        pulled = sorted({reference for reference in declares.values() if reference and "$" not in reference})
        if self._docker and pulled and not self._refused.intersection(pulled):
            try:
                return {}, " ".join(["docker", *map(self._docker.base_id, pulled)])
            except EnvironmentFailure as error:
                if not apt.available():
                    raise
                self._refused.update(pulled)
                reason = error.message.splitlines()[-1].rpartition(": ")[2]
                self._progress(f"{' '.join(pulled)} cannot be pulled ({reason}): a base of Debian packages is used")
        name = "docker" if self._docker else "buildah"
        if declares and apt.available():
            return base_image.arguments(declares), f"{name} {base_image.key()}"
        return {}, " ".join([name, *pulled])

    def _found(self, home: Path, build: ImageBuild) -> list[BuiltImage]:
        images = cached(home, list(build.tags))
        for tag in build.tags if images else ():
            kept = home / log_name(tag)
            told = kept.read_text("utf-8", "replace") if kept.exists() else ""
            head = f"{tag} is unchanged: taken from {home}. What its build printed:\n\n"
            files.write(self._logs / log_name(tag), head + told)
        if images:
            self._progress(f"images of {build.context}: unchanged, {_size(home)} in the cache")
        return images

    def _made(
        self, home: Path, build: ImageBuild, context: Path, arguments: dict[str, str], builder: Builder
    ) -> list[BuiltImage]:
        began = time.monotonic()
        home.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".new-", dir=home.parent) as scratch:
            entry = Path(scratch, "entry")
            entry.mkdir()
            if any(reference in base_image.references().values() for reference in arguments.values()):
                log = self._fresh_log("python-base")
                with _told("the Python base image", log):
                    base_image.ensure(builder, self._settings, log=log, progress=self._progress)
            saved = []
            for number, (tag, own) in enumerate(build.tags.items(), 1):
                log = self._fresh_log(tag)
                dockerfile = context / build.dockerfile
                job = Job(tag=tag, context=context, dockerfile=dockerfile, arguments=arguments, own=own)
                what = f"building image {tag} with {builder.name} ({number}/{len(build.tags)})"
                with ticking(self._progress, what), _told(f"image {tag}", log):
                    builder.build(job, log=log)
                saved.append(Path(scratch, f"{number}.tar"))
                builder.save(tag, saved[-1])
                shutil.copyfile(log, entry / log.name)
            oci.repack(saved, list(build.tags), entry / ARCHIVE)
            shutil.rmtree(home, ignore_errors=True)  # a damaged entry
            entry.rename(home)
        prune(home)
        taken = time.monotonic() - began
        self._progress(f"images of {build.context}: built in {taken:.1f} s, {_size(home)}")
        return oci.stored(home / ARCHIVE, list(build.tags), source="built")

    def _fresh_log(self, tag: str) -> Path:
        log = self._logs / log_name(tag)
        log.unlink(missing_ok=True)
        return log


def _engine(settings: Settings, progress: Progress) -> Docker | None:
    if not docker.answers():
        return None
    try:
        return Docker(settings)
    except EnvironmentFailure as error:
        if not buildah.possible():
            raise
        progress(f"{error.message}: images are built by buildah")
        return None


class _told:  # noqa: N801 - reads as a verb
    """Turns a builder's failure into one about the image: its last words, and where all of them are."""

    def __init__(self, what: str, log: Path) -> None:
        self._what, self._log = what, log

    def __enter__(self) -> None: ...

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, process.ProgramFailed):
            late = error.__cause__ is not None  # it did not start, or did not end in time
            printed = self._log.read_text("utf-8", "replace") if self._log.exists() else ""
            reason = error.message if late or not printed else process.tail(printed)
            hint = f"all its output is in {self._log}" if printed else error.hint
            raise EnvironmentFailure(f"{self._what} could not be built: {reason}", hint=hint) from error


def cached(home: Path, references: list[str]) -> list[BuiltImage]:
    """Return the images of one cache entry; none where it is absent, damaged or holds others."""
    try:
        return oci.stored(home / ARCHIVE, references, source="cached")
    except EnvironmentFailure:
        return []


def prune(home: Path) -> None:
    """Remove the oldest entries beside ``home`` that were made from the same Dockerfile or binary."""
    prefix = home.name.rpartition("-")[0]
    alike = [entry for entry in home.parent.iterdir() if entry.name.rpartition("-")[0] == prefix and entry != home]
    for entry in sorted(alike, key=lambda entry: entry.stat().st_mtime, reverse=True)[_KEPT - 1 :]:
        shutil.rmtree(entry, ignore_errors=True)


def log_name(tag: str) -> str:
    """Return the log's name for an image: ``acme/api:e2e`` is ``build-api.txt``."""
    return f"build-{tag.rpartition('/')[2].partition(':')[0].partition('@')[0]}.txt"


def _size(home: Path) -> str:
    return f"{(home / ARCHIVE).stat().st_size / _MB:.0f} MB"
