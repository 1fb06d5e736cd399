"""Image builds by a Docker engine, through buildx where its client has it."""

import os
import shutil
from pathlib import Path
from typing import Self

from k8s_e2e.base import process
from k8s_e2e.base.errors import EnvironmentFailure
from k8s_e2e.cluster import build_access
from k8s_e2e.cluster.builder import Job
from k8s_e2e.model.settings import Settings

_ANSWER_S = 5.0  # an engine that does not answer by then is none
_SAVE_S = 300.0


def answers() -> bool:
    """Say whether a Docker engine answers."""
    if not shutil.which("docker"):
        return False
    asked = ["docker", "version", "--format", "{{.Server.Version}}"]
    try:
        return process.run(asked, timeout_s=_ANSWER_S, check=False).code == 0
    except process.ProgramFailed:
        return False


class Docker:
    """Builds by `docker buildx build` or, where the client has no buildx, by `docker build` with BuildKit."""

    name = "docker"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        asked = process.run(["docker", "buildx", "version"], timeout_s=_ANSWER_S, check=False)
        self._build = ["docker", "build"]
        if asked.code == 0:  # attestations would make an index of each image
            self._build = ["docker", "buildx", "build", "--load", "--provenance=false"]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def build(self, job: Job, *, log: Path) -> None:
        """Build one image into the engine's store."""
        with build_access.granted(directories=False) as access:
            words = [*self._build, "--progress=plain", "--tag", job.tag, "--file", str(job.dockerfile)]
            words += ["--target", job.target] if job.target else []
            proxies = {name: os.environ[name] for name in build_access.PROXIES if name in os.environ}
            for name, value in {**proxies, **job.arguments, **job.own}.items():
                words += ["--build-arg", f"{name}={value}"]
            for secret, path in access.secrets.items():
                words += ["--secret", f"id={secret},src={path}"]
            process.run(
                [*words, job.context],
                timeout_s=self._settings.build_timeout_s,
                env={"DOCKER_BUILDKIT": "1", "SOURCE_DATE_EPOCH": "0"},
                log=log,
            )

    def base_id(self, reference: str) -> str:
        """Return the image's id, pulling it if the engine does not have it."""
        if not self.has(reference):
            process.run(["docker", "pull", "--quiet", reference], timeout_s=self._settings.download_timeout_s)
        return self._id(reference)

    def has(self, reference: str) -> bool:
        """Say whether the engine has the image."""
        return bool(self._id(reference))

    def save(self, reference: str, out: Path) -> None:
        """Write one image to a docker archive."""
        if not self.has(reference):
            raise EnvironmentFailure(f"the build ended well, but the Docker engine has no image {reference}")
        process.run(["docker", "save", "--output", out, reference], timeout_s=_SAVE_S)

    def _id(self, reference: str) -> str:
        asked = ["docker", "image", "inspect", "--format", "{{.Id}}", reference]
        return process.run(asked, timeout_s=_ANSWER_S, check=False).stdout.strip()
