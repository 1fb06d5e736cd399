"""Image builds without an engine: buildah, with everything of its own in the kit's cache.

Where the system has no buildah it is unpacked privately from Debian's packages. Its store, its policy and its
configuration are the kit's, nothing in /etc is read or written. Each command runs in process and mount namespaces of
its own: when it is killed, or we are, its processes and mounts go with it.
"""

import contextlib
import hashlib
import os
import platform
import shutil
import tempfile
from pathlib import Path
from typing import Self

import msgspec

from k8s_e2e.base import files, process
from k8s_e2e.base.errors import EnvironmentFailure
from k8s_e2e.base.lock import locked
from k8s_e2e.base.progress import Progress
from k8s_e2e.cluster import apt, build_access, docker_archive, dockerfile
from k8s_e2e.cluster.builder import Job
from k8s_e2e.model.settings import Settings

_SESSION = ".session-"
_SHORT_S = 60.0
_SAVE_S = 300.0
_MOST_IMAGES = 300  # finished steps in the store; some 2 GB
_INSTALL = "apt-get install --no-install-recommends buildah"
# The system's libraries with the unpacked ones on top, for this namespace only: buildah starts itself again without
# an environment, so a library path would be lost.
_WITH_LIBRARIES = 'mount -t overlay overlay -o "lowerdir=$1:$2" "$2"; shift 2; exec "$@"'
_POLICY = '{"default": [{"type": "insecureAcceptAnything"}]}\n'
_REGISTRIES = 'unqualified-search-registries = ["docker.io"]\n'


def possible() -> bool:
    """Say whether buildah can be had here: as root, installed or out of Debian's packages."""
    return os.geteuid() == 0 and (shutil.which("buildah") is not None or apt.available())


class Buildah:
    """buildah with chroot isolation: needs root, and neither a daemon nor a runtime. Use as a context manager.

    Raises:
        EnvironmentFailure: not root, or buildah can neither be found nor unpacked.
    """

    name = "buildah"

    def __init__(self, settings: Settings, progress: Progress) -> None:
        if os.geteuid() != 0:
            message = (
                "images are built by a Docker engine, or by buildah as root: no engine answers, and this is not root"
            )
            raise EnvironmentFailure(message, hint="start Docker, or run as root")
        self._settings, self._progress = settings, progress
        self._home = settings.cache_dir.absolute() / "buildah"
        self._shared: dict[tuple[Path, str, str], str] = {}  # what images share -> the image made of it
        self._saved: set[str] = set()  # layers written to archives

    def __enter__(self) -> Self:
        self._home.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            what, limit = f"the lock on buildah's store in {self._home}", self._settings.build_timeout_s
            stack.enter_context(locked(self._home / ".lock", what=what, timeout_s=limit, progress=self._progress))
            for left in self._home.glob(f"{_SESSION}*"):  # by a build that was killed
                shutil.rmtree(left, ignore_errors=True)
            self._state = stack.enter_context(tempfile.TemporaryDirectory(prefix=_SESSION, dir=self._home))
            self._start = _program(self._home, self._settings, self._progress)
            self._driver = "overlay" if _overlay_works(self._home) else "vfs"
            for name, text in {"policy.json": _POLICY, "registries.conf": _REGISTRIES, "containers.conf": ""}.items():
                files.write(self._home / name, text)
            files.write(self._home / "storage.conf", f'[storage]\ndriver = "{self._driver}"\n')
            self._empty_if_large()
            # Mounts are recorded in the state directory, and a fresh one forgets those of a build that was killed.
            self._run("rm", "--all", check=False)
            self._leave = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._leave.close()

    def build(self, job: Job, *, log: Path) -> None:
        """Build one image into the store; unchanged steps are taken from there.

        buildah (1.28) finds a step it has done by its text, without the values of build arguments: `ENV A=$B` of one
        image would be taken for another's. So reuse ends where the images of a Dockerfile begin to differ.
        """
        text = job.dockerfile.read_text("utf-8")
        given = {**job.arguments, **job.own}
        parts = dockerfile.split(text, job.own)
        if parts is None:
            self._bud(job, text, "--no-cache", arguments=given, tag=job.tag, log=log)
            return
        shared, rest = parts
        if not rest:
            self._bud(job, text, arguments=given, tag=job.tag, log=log)
            return
        base = self._shared.get((job.context, shared, job.target))
        if base is None:
            base = f"localhost/k8s-e2e/shared:{hashlib.sha256(shared.encode()).hexdigest()[:16]}"
            self._bud(job, shared, arguments=job.arguments, tag=base, log=log)
            self._shared[job.context, shared, job.target] = base
        self._bud(job, f"FROM {base}\n{rest}", "--no-cache", arguments=job.own, tag=job.tag, log=log)

    def _bud(self, job: Job, text: str, *words: str, arguments: dict[str, str], tag: str, log: Path) -> None:
        access = build_access.granted(directories=True)
        with access.secrets(Path(self._state)) as secrets:
            file = Path(self._state, "Dockerfile")
            file.write_text(text, "utf-8")
            options = ["--isolation", "chroot", "--layers", "--timestamp", "0", "--file", str(file), *words]
            options += ["--signature-policy", str(self._home / "policy.json"), "--tag", tag]
            options += ["--target", job.target] if job.target else []
            for name, value in arguments.items():
                options += ["--build-arg", f"{name}={value}"]
            for secret, path in secrets.items():
                options += ["--secret", f"id={secret},src={path}"]
            for directory in access.directories:
                options += ["--volume", f"{directory}:{directory}:ro"]
            try:
                self._run("bud", *options, str(job.context), log=log, timeout_s=self._settings.build_timeout_s)
            except process.ProgramFailed:
                self._run("rm", "--all", check=False)
                raise

    def has(self, reference: str) -> bool:
        """Say whether the store holds the image."""
        return bool(self._inspect(reference, "{{.FromImageID}}"))

    def save(self, reference: str, out: Path) -> None:
        """Write one image to a docker archive; without its layers if all were written in this session."""
        if not self.has(reference):
            raise EnvironmentFailure(f"the build ended well, but buildah's store has no image {reference}")
        config = self._inspect(reference, "{{.Config}}").encode()
        diff_ids = set(msgspec.json.decode(config)["rootfs"]["diff_ids"])
        if diff_ids <= self._saved:
            docker_archive.write_config_only(out, reference, config)
            return
        policy = ["--signature-policy", str(self._home / "policy.json")]
        self._run("push", "--quiet", *policy, reference, f"docker-archive:{out}:{reference}", timeout_s=_SAVE_S)
        self._saved |= diff_ids

    def _empty_if_large(self) -> None:
        """Forget all steps now and then: each change of a source leaves some, and all are looked through each time."""
        store = self._home / self._driver
        if sum(1 for _ in store.glob("*-images/*")) > _MOST_IMAGES:
            self._progress(f"emptying buildah's store, which has grown large: {store}")
            shutil.rmtree(store)

    def _inspect(self, reference: str, template: str) -> str:
        asked = self._run("inspect", "--type", "image", "--format", template, reference, check=False)
        return asked.stdout.strip() if asked.code == 0 else ""

    def _run(
        self, command: str, *words: str, check: bool = True, log: Path | None = None, timeout_s: float = _SHORT_S
    ) -> process.Finished:
        store = ["--root", str(self._home / self._driver), "--runroot", self._state, "--storage-driver", self._driver]
        registries = ["--registries-conf", str(self._home / "registries.conf")]
        configuration = {
            "TMPDIR": self._state,
            "CONTAINERS_CONF": str(self._home / "containers.conf"),
            "CONTAINERS_REGISTRIES_CONF": str(self._home / "registries.conf"),
            "CONTAINERS_STORAGE_CONF": str(self._home / "storage.conf"),
        }
        argv = [*self._start, *store, *registries, command, *words]
        return process.run(argv, timeout_s=timeout_s, env=configuration, check=check, log=log)


def _program(home: Path, settings: Settings, progress: Progress) -> list[str]:
    """Return the words that start buildah in namespaces of its own: if we die, it dies with all that it started."""
    enter = ["setpriv", "--pdeathsig", "KILL", "--", "unshare", "--fork", "--pid", "--kill-child", "--mount-proc"]
    if found := shutil.which("buildah"):
        return [*enter, found]
    release = platform.freedesktop_os_release()
    unpacked = home / f"program-{release.get('ID')}-{release.get('VERSION_ID')}"
    if not (unpacked / "usr/bin/buildah").exists():
        if not apt.available():
            raise EnvironmentFailure("there is neither a Docker engine nor buildah", hint="install buildah or Docker")
        progress("unpacking buildah from Debian's packages into the cache (nothing is installed)")
        with tempfile.TemporaryDirectory(prefix=".apt-", dir=home) as scratch:
            debs = apt.fetch(
                ["buildah"], Path(scratch, "apt"), beside_system=True, timeout_s=settings.download_timeout_s
            )
            apt.unpack(debs, Path(scratch, "root"))
            shutil.rmtree(unpacked, ignore_errors=True)
            Path(scratch, "root").rename(unpacked)
    libraries = next(iter(sorted(unpacked.glob("usr/lib/*-linux-gnu*"))), None)
    start = [*enter, str(unpacked / "usr/bin/buildah")]
    if libraries:
        system = Path("/usr/lib", libraries.name)
        start = [*enter, "sh", "-ec", _WITH_LIBRARIES, "sh", str(libraries), str(system), start[-1]]
    try:
        process.run([*start, "--version"], timeout_s=_SHORT_S)
    except process.ProgramFailed as error:
        raise EnvironmentFailure(f"the unpacked buildah does not start: {error.message}", hint=_INSTALL) from error
    return start


def _overlay_works(home: Path) -> bool:
    """Say whether overlay mounts work in ``home``; without them (on some file systems) layers are copied whole."""
    with tempfile.TemporaryDirectory(prefix=".overlay-", dir=home) as scratch:
        for name in ("lower", "upper", "work", "merged"):
            Path(scratch, name).mkdir()
        options = "lowerdir=lower,upperdir=upper,workdir=work"
        argv = ["unshare", "--mount", "mount", "-t", "overlay", "overlay", "-o", options, "merged"]
        return process.run(argv, cwd=Path(scratch), timeout_s=_SHORT_S, check=False).code == 0
