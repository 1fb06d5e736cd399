"""Image builds without an engine: buildah, with everything of its own in the kit's cache.

Where the system has no buildah it is unpacked privately from Debian's packages. Its store, its policy and its
configuration are the kit's, nothing in /etc is read or written. Each command runs in a mount namespace of its own:
when it is killed, its mounts go with it.
"""

import os
import platform
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from k8s_e2e.base import files, process
from k8s_e2e.base.errors import EnvironmentFailure
from k8s_e2e.base.progress import Progress
from k8s_e2e.cluster import apt, build_access
from k8s_e2e.cluster.builder import Job
from k8s_e2e.model.settings import Settings

_SHORT_S = 60.0
_INSTALL = "apt-get install --no-install-recommends buildah"
# The system's libraries with the unpacked ones on top, for this namespace only: buildah starts itself again without
# an environment, so a library path would be lost.
_WITH_LIBRARIES = 'mount -t overlay overlay -o "lowerdir=$1:$2" "$2"; shift 2; exec "$@"'
_POLICY = '{"default": [{"type": "insecureAcceptAnything"}]}\n'
_REGISTRIES = 'unqualified-search-registries = ["docker.io"]\n'


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
        self._settings = settings
        self._home = settings.cache_dir.absolute() / "buildah"
        self._home.mkdir(parents=True, exist_ok=True)
        self._start = _program(self._home, settings, progress)
        self._driver = "overlay" if _overlay_works(self._home) else "vfs"
        for name, text in {"policy.json": _POLICY, "registries.conf": _REGISTRIES, "containers.conf": ""}.items():
            files.write(self._home / name, text)
        files.write(self._home / "storage.conf", f'[storage]\ndriver = "{self._driver}"\n')

    def __enter__(self) -> Self:
        # What a killed build left is found by its state in here, so a fresh directory forgets its mounts.
        self._state = tempfile.mkdtemp(prefix="k8s-e2e-buildah-")
        self._run("rm", "--all", check=False)
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._state, ignore_errors=True)

    def build(self, job: Job, *, log: Path) -> None:
        """Build one image into the store; unchanged steps are taken from there."""
        with (
            build_access.granted(directories=True) as access,
            tempfile.NamedTemporaryFile("w", prefix="Dockerfile-", dir=self._state, encoding="utf-8") as dockerfile,
        ):
            dockerfile.write(with_argument_marks(job.dockerfile.read_text("utf-8"), job.arguments))
            dockerfile.flush()
            words = ["--isolation", "chroot", "--layers", "--timestamp", "0", "--file", dockerfile.name]
            words += ["--signature-policy", str(self._home / "policy.json"), "--tag", job.tag]
            words += ["--target", job.target] if job.target else []
            for name, value in job.arguments.items():
                words += ["--build-arg", f"{name}={value}"]
            for secret, path in access.secrets.items():
                words += ["--secret", f"id={secret},src={path}"]
            for directory in access.directories:
                words += ["--volume", f"{directory}:{directory}:ro"]
            try:
                self._run("bud", *words, str(job.context), log=log, timeout_s=self._settings.build_timeout_s)
            except process.ProgramFailed:
                self._run("rm", "--all", check=False)
                raise

    def has(self, reference: str) -> bool:
        """Say whether the store holds the image."""
        return bool(self._id(reference))

    def save(self, reference: str, out: Path) -> None:
        """Write one image to a docker archive."""
        if not self.has(reference):
            raise EnvironmentFailure(f"the build ended well, but buildah's store has no image {reference}")
        policy = ["--signature-policy", str(self._home / "policy.json")]
        self._run("push", "--quiet", *policy, reference, f"docker-archive:{out}:{reference}", timeout_s=_SHORT_S * 5)

    def _id(self, reference: str) -> str:
        asked = self._run("inspect", "--type", "image", "--format", "{{.FromImageID}}", reference, check=False)
        return asked.stdout.strip() if asked.code == 0 else ""

    def _run(
        self, command: str, *words: str, check: bool = True, log: Path | None = None, timeout_s: float = _SHORT_S
    ) -> process.Finished:
        store = ["--root", str(self._home / self._driver), "--runroot", self._state, "--storage-driver", self._driver]
        registries = ["--registries-conf", str(self._home / "registries.conf")]
        configuration = {
            "CONTAINERS_CONF": str(self._home / "containers.conf"),
            "CONTAINERS_REGISTRIES_CONF": str(self._home / "registries.conf"),
            "CONTAINERS_STORAGE_CONF": str(self._home / "storage.conf"),
        }
        argv = [*self._start, *store, *registries, command, *words]
        return process.run(argv, timeout_s=timeout_s, env=configuration, check=check, log=log)


def with_argument_marks(dockerfile: str, arguments: Mapping[str, str]) -> str:
    """Return ``dockerfile`` so that steps after an ``ARG`` are reused for the same value only.

    buildah (1.28) compares the text of steps and forgets the values of build arguments: without a mark, `ENV A=$B`
    of one image is taken for the next one, whatever B is then. A second argument named for the value makes the text
    differ. Arguments before the first FROM decide by the base image already.
    """
    out, staged = [], False
    for line in dockerfile.splitlines(keepends=True):
        out.append(line)
        staged = staged or bool(re.match(r"(?i)\s*FROM\s", line))
        declared = re.match(r"(?i)\s*ARG\s+([A-Za-z_]\w*)", line)
        if staged and declared and declared[1] in arguments and not line.rstrip().endswith("\\"):
            value = arguments[declared[1]].encode().hex()
            out.append(f"{'' if line.endswith(chr(10)) else chr(10)}ARG {declared[1]}_IS_{value}\n")
    return "".join(out)


def _program(home: Path, settings: Settings, progress: Progress) -> list[str]:
    """Return the words that start buildah in a mount namespace of its own."""
    enter = ["unshare", "--mount", "--propagation", "private"]
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
