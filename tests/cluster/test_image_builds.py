"""Images built for real, by docker or buildah: layers, tags, reuse, failures, and how they run in a node."""

import json
import os
import re
import subprocess
import sys
import tarfile
import textwrap
import time
from pathlib import Path

import pytest

from k8s_e2e.base.errors import EnvironmentFailure, UsageError
from k8s_e2e.cluster import docker, images, oci
from k8s_e2e.cluster.local.provider import LocalProvider
from k8s_e2e.cluster.provider import Cluster
from k8s_e2e.cluster.providers import can_run_local
from k8s_e2e.model.profile import ImageBuild, Profile
from k8s_e2e.model.settings import Settings

pytestmark = pytest.mark.cluster

DOCKERFILE = """\
ARG BASE_IMAGE=docker.io/library/python:3.12-slim
ARG BUILD_IMAGE=${BASE_IMAGE}
FROM ${BUILD_IMAGE} AS build
RUN --mount=type=secret,id=pip_conf,target=/etc/pip.conf python3 -m venv --without-pip /venv && cat /etc/pip.conf >/seen
COPY main.py /app/main.py
FROM ${BASE_IMAGE}
COPY --from=build /venv /venv
COPY --from=build /app /app
USER 65532:65532
ENTRYPOINT ["/venv/bin/python", "/app/main.py"]
ARG WORD
ENV WORD=${WORD}
"""
MAIN = """\
import os, sqlite3, ssl, sys, time
try:
    open("/app/file", "w")
except OSError as error:
    print(os.environ["WORD"], os.getuid(), error.strerror, sys.prefix, flush=True)
time.sleep(600)
"""


class Platform:
    """A small platform: one Dockerfile, two tags."""

    def __init__(self, root: Path, settings: Settings) -> None:
        self.root, self.settings = root, settings
        self.context, self.logs = root / "app", root / "logs"
        self.context.mkdir(parents=True)
        (self.context / "Dockerfile").write_text(DOCKERFILE)
        (self.context / "main.py").write_text(MAIN)
        tags = {f"test-{root.name}/{word}:e2e": {"WORD": word} for word in ("one", "two")}
        build = ImageBuild(context="app", tags=tags)
        self.profile = Profile(root=root, name="test", overlay=".", namespace="test", images=(build,))
        self.said: list[str] = []

    def build(self) -> list[oci.BuiltImage]:
        """Build its images."""
        return images.build_images(self.profile, self.settings, logs=self.logs, progress=self.said.append)


@pytest.fixture
def build_settings(tmp_path) -> Settings:
    """A cache of the test's own that shares buildah and its base images with the user's."""
    if not can_run_local() and not docker.answers():
        pytest.skip("no Docker engine answers, and buildah needs root on Linux")
    shared = Settings().cache_dir.absolute() / "buildah"
    shared.mkdir(parents=True, exist_ok=True)
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / "buildah").symlink_to(shared)
    return Settings(cache_dir=cache)


@pytest.fixture
def platform(tmp_path, build_settings) -> Platform:
    """A platform that no other test builds."""
    return Platform(tmp_path / f"p{os.getpid()}{time.monotonic_ns() % 10**6}", build_settings)


def mounts() -> set[str]:
    """Return the mount points below any buildah store."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return {line.split()[4] for line in lines if "/buildah/" in line}


def config_of(image: oci.BuiltImage) -> dict:
    """Return an image's configuration."""
    with tarfile.open(image.archive) as tar:
        return json.load(tar.extractfile(f"blobs/sha256/{image.digest[7:]}"))


def test_tags_of_a_dockerfile_share_all_layers_and_differ_in_settings(platform):
    """Two tags are built with their own arguments; the archive is hardly larger than one image of them."""
    one, two = platform.build()
    assert one.digest != two.digest
    assert [image.source for image in (one, two)] == ["built", "built"]
    assert "WORD=one" in config_of(one)["config"]["Env"]
    assert "WORD=two" in config_of(two)["config"]["Env"]
    assert config_of(one)["rootfs"] == config_of(two)["rootfs"]
    assert one.archive.stat().st_size < one.bytes + 200_000
    assert one.bytes < 60e6 or docker.answers()  # with python:3.12-slim it is more
    assert mounts() == set()
    log = (platform.logs / "build-one.txt").read_text()
    assert "COPY main.py" in log


def test_only_changed_inputs_are_built_again(platform):
    """The second build reads the cache, a changed source is built again, and a change taken back is found again."""
    first = platform.build()
    platform.said.clear()
    again = platform.build()
    assert [image.digest for image in again] == [image.digest for image in first]
    assert {image.source for image in again} == {"cached"}
    said = [re.sub(r"\d+", "N", line) for line in platform.said if "cannot be pulled" not in line]
    assert said == ["images of app: unchanged, N MB in the cache"]
    assert "COPY main.py" in (platform.logs / "build-one.txt").read_text()
    (platform.context / "main.py").write_text(MAIN + "# changed\n")
    changed = platform.build()
    assert {image.source for image in changed} == {"built"}
    assert changed[0].digest != first[0].digest
    (platform.context / "main.py").write_text(MAIN)
    assert {image.source for image in platform.build()} == {"cached"}


def test_a_damaged_cache_entry_is_built_again(platform):
    """An archive that was cut is made again, with the same digests as before."""
    first = platform.build()
    raw = first[0].archive.read_bytes()
    first[0].archive.write_bytes(raw[: len(raw) // 2])
    again = platform.build()
    assert [(image.digest, image.source) for image in again] == [(image.digest, "built") for image in first]


def test_a_failing_build_says_its_last_words_and_leaves_nothing(platform):
    """The error has the last lines and the log's path; no cache entry, mount or container stays; mended, it builds."""
    dockerfile = platform.context / "Dockerfile"
    dockerfile.write_text(DOCKERFILE.replace("&& cat", "&& echo no such thing as $((6*7)) >&2 && exit 9 && cat"))
    with pytest.raises(EnvironmentFailure, match=r"image test-.*/one:e2e could not be built: (?s:.*)thing as 42") as it:
        platform.build()
    assert str(platform.logs / "build-one.txt") in it.value.hint
    assert "no such thing as 42" in (platform.logs / "build-one.txt").read_text()
    assert it.value.exit_code == 3
    assert [path.name for path in (platform.settings.cache_dir / "images").iterdir()] == []
    assert mounts() == set()
    dockerfile.write_text(DOCKERFILE)
    assert len(platform.build()) == 2


def test_a_missing_dockerfile_is_a_usage_error(platform):
    """The profile names a file that is not there: said before anything is built."""
    (platform.context / "Dockerfile").unlink()
    with pytest.raises(UsageError, match="there is no Dockerfile"):
        platform.build()


def test_a_killed_build_leaves_nothing_and_does_not_harm_the_next(platform, tmp_path):
    """After SIGKILL in the middle of a step the store works on, with nothing running or mounted on the machine."""
    if docker.answers():
        pytest.skip("a Docker engine answers: its daemon ends builds whose client is gone")
    mark = "RUN echo reached && sleep 60\n"
    (platform.context / "Dockerfile").write_text(DOCKERFILE.replace("COPY main.py", mark + "COPY main.py"))
    program = textwrap.dedent(f"""
        import sys; sys.path[:] = {sys.path!r}
        from pathlib import Path
        from k8s_e2e.cluster import images
        from k8s_e2e.model.profile import ImageBuild, Profile
        from k8s_e2e.model.settings import Settings
        build = ImageBuild(context="app", tags={{"test-killed:e2e": {{}}}})
        profile = Profile(root=Path({str(platform.root)!r}), name="t", overlay=".", namespace="t", images=(build,))
        settings = Settings(cache_dir=Path({str(platform.settings.cache_dir)!r}))
        images.build_images(profile, settings, logs=Path({str(platform.logs)!r}), progress=print)
    """)
    child = subprocess.Popen([sys.executable, "-c", program])
    log = platform.logs / "build-test-killed.txt"
    deadline = time.monotonic() + 120
    while not (log.exists() and "\nreached" in log.read_text()):
        assert time.monotonic() < deadline, "the step was never reached"
        assert child.poll() is None
        time.sleep(0.1)
    below = children(child.pid)
    assert any(b"sleep" in Path(f"/proc/{pid}/cmdline").read_bytes() for pid in below)
    child.kill()
    child.wait()
    while any(Path(f"/proc/{pid}").exists() for pid in below):
        assert time.monotonic() < deadline, "processes of the build are left"
        time.sleep(0.05)
    assert mounts() == set()
    (platform.context / "Dockerfile").write_text(DOCKERFILE)
    assert len(platform.build()) == 2


def children(pid: int) -> list[int]:
    """Return all processes below ``pid``."""
    below = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in map(int, (task / "children").read_text().split()):
            below += [child, *children(child)]
    return below


def test_images_are_loaded_once_and_run_without_root_and_without_writing(
    platform, provider: LocalProvider, cluster: Cluster, kubectl, namespace
):
    """Images reach the node in one archive, a second load has nothing to do, and pods run them under `restricted`."""
    built = platform.build()
    said: list[str] = []
    records = images.load_and_verify(provider, cluster.name, built, said.append)
    assert [(record.reference, record.digest) for record in records] == [(i.reference, i.digest) for i in built]
    assert all(record.bytes > 1e6 for record in records)
    said.clear()
    assert images.load_and_verify(provider, cluster.name, built, said.append) == records
    assert said == []
    kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "it"},
        "spec": {
            "automountServiceAccountToken": False,
            "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [
                {
                    "name": "it",
                    "image": built[1].reference,
                    "imagePullPolicy": "Never",
                    "securityContext": {
                        "readOnlyRootFilesystem": True,
                        "allowPrivilegeEscalation": False,
                        "capabilities": {"drop": ["ALL"]},
                    },
                }
            ],
        },
    }
    kubectl("apply", "-n", namespace, "-f", "-", stdin=json.dumps(pod))
    kubectl("wait", "-n", namespace, "--for=condition=Ready", "pod/it", "--timeout=60s")
    deadline = time.monotonic() + 30
    while not (printed := kubectl("logs", "-n", namespace, "it").strip()):
        assert time.monotonic() < deadline, "the container printed nothing"
        time.sleep(0.2)
    assert printed == "two 65532 Read-only file system /venv"
    seen = kubectl.get("pod", "it", "-n", namespace)["status"]["containerStatuses"][0]["imageID"]
    assert seen == built[1].digest
