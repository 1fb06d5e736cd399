"""Image builds by a Docker engine, through buildx; an old client has what is needed of it built in."""

import os
import shutil
from pathlib import Path
from typing import NamedTuple, Self

from k8s_e2e.base import process
from k8s_e2e.base.errors import EnvironmentFailure
from k8s_e2e.cluster import build_access
from k8s_e2e.cluster.builder import Job
from k8s_e2e.model.settings import Settings

_ANSWER_S = 5.0  # an engine that does not answer by then is none
_SAVE_S = 300.0
_PIP_CONF = "K8S_E2E_PIP_CONF"  # the client's environment, not the build's
_NEEDS_BUILDX = 23  # the first client that has no BuildKit of its own
_INSTALL = "install it: docker-buildx-plugin among Docker's own packages, docker-buildx among Debian's and Ubuntu's"


class Engine(NamedTuple):
    """What a Docker engine said. ``version`` is empty where none answers; ``problem`` says why that is so."""

    version: str
    problem: str = ""
    client: bool = True
    """Whether there is a client to ask with."""


def engine() -> Engine:
    """Ask for a Docker engine."""
    if not shutil.which("docker"):
        return Engine("", "there is no docker program on PATH", client=False)
    asked = ["docker", "version", "--format", "{{.Server.Version}}"]
    try:
        said = process.run(asked, timeout_s=_ANSWER_S, check=False)
    except process.ProgramFailed as error:
        return Engine("", error.message)
    if said.code:
        return Engine("", process.tail(said.stderr, 1) or f"docker version exited with {said.code}")
    return Engine(said.stdout.strip() or "unknown")


def answers() -> bool:
    """Say whether a Docker engine answers."""
    return bool(engine().version)


def build_command() -> list[str]:
    """Return the words that build an image: `docker buildx build` or, before version 23, `docker build`.

    Builds go to the engine itself whatever builder is current, because only there a build finds the images that the
    engine has, and an image need not be copied into it. A builder that ``BUILDX_BUILDER`` names is asked all the same.

    Raises:
        EnvironmentFailure: the client needs buildx and has none.
    """
    asked = ["docker", "version", "--format", "{{.Client.Version}} {{.Client.Context}}"]
    version, _, context = process.run(asked, timeout_s=_ANSWER_S).stdout.strip().partition(" ")
    if process.run(["docker", "buildx", "version"], timeout_s=_ANSWER_S, check=False).code == 0:
        words = ["docker", "buildx", "build", "--load", "--provenance=false"]  # attestations would make it an index
        # A context's own builder has its name.
        return words if os.environ.get("BUILDX_BUILDER") else [*words, "--builder", context or "default"]
    major = version.partition(".")[0]
    if not major.isdecimal() or int(major) >= _NEEDS_BUILDX:
        message = f"docker {version} builds images with its plugin buildx alone, which is not installed"
        raise EnvironmentFailure(message, hint=_INSTALL)
    return ["docker", "build"]


class Docker:
    """Builds by an engine that answers, with BuildKit.

    Raises:
        EnvironmentFailure: the client cannot build.
    """

    name = "docker"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._build = build_command()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def build(self, job: Job, *, log: Path) -> None:
        """Build one image into the engine's store."""
        access = build_access.granted(directories=False)
        words = [*self._build, "--progress=plain", "--tag", job.tag, "--file", str(job.dockerfile)]
        words += ["--target", job.target] if job.target else []
        proxies = {name: os.environ[name] for name in build_access.PROXIES if name in os.environ}
        for name, value in {**proxies, **job.arguments, **job.own}.items():
            words += ["--build-arg", f"{name}={value}"]
        words += ["--secret", f"id={build_access.PIP_CONF},env={_PIP_CONF}"]  # never in a file: it may have a password
        if access.ca_bundle:
            words += ["--secret", f"id={build_access.CA_BUNDLE},src={access.ca_bundle}"]
        process.run(
            [*words, job.context],
            timeout_s=self._settings.build_timeout_s,
            env={"DOCKER_BUILDKIT": "1", "SOURCE_DATE_EPOCH": "0", _PIP_CONF: access.pip_conf},
            log=log,
            tethered=True,  # the engine ends a build whose client is gone
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
