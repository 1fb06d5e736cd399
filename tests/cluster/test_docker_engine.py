"""Images built, saved and loaded by a real Docker engine: the way they are made on GitHub's runners."""

import json
import os
import subprocess
import sys
import tarfile
import textwrap
import time
from pathlib import Path

import pytest

from k8s_e2e.base import process
from k8s_e2e.base.errors import EnvironmentFailure
from k8s_e2e.base.wait import Pending, wait_for
from k8s_e2e.cluster import build_access, docker, doctor, image_builds, images, oci
from k8s_e2e.cluster.local.provider import LocalProvider
from k8s_e2e.cluster.provider import Cluster
from k8s_e2e.model.profile import ImageBuild, Profile
from k8s_e2e.model.settings import Settings
from tests.cluster import registry
from tests.cluster.docker_engine import DockerEngine, processes

pytestmark = pytest.mark.cluster

# The form of the platform's own: two stages on bases that arguments name, two secrets, settings that differ at the end.
DOCKERFILE = """\
ARG BASE_IMAGE=localhost/busybox:1
ARG BUILD_IMAGE=${BASE_IMAGE}

FROM ${BUILD_IMAGE} AS build
USER 0:0
COPY requirements.lock /build/requirements.lock
RUN --mount=type=secret,id=pip_conf,target=/etc/pip.conf --mount=type=secret,id=ca_bundle \\
    busybox mkdir /venv \\
    && busybox wc -l < /etc/pip.conf > /venv/pip-lines \\
    && { busybox grep -c BEGIN /run/secrets/ca_bundle || echo none; } > /venv/authorities
RUN test ! -s /etc/pip.conf && test ! -s /run/secrets/ca_bundle && echo nothing is kept
COPY src /app

FROM ${BASE_IMAGE}
COPY --from=build /venv /venv
COPY --from=build /app /app
WORKDIR /app
USER 65532:65532
ENTRYPOINT ["/bin/sh", "/app/main.sh"]
ARG WORD
ENV WORD=${WORD}
"""
MAIN = """\
exec 2>&1
echo "$WORD $(busybox id -u) $(busybox cat /venv/authorities) $(echo /app/*)"
echo text > /app/file
exec busybox sleep 600
"""


@pytest.fixture
def profile(tmp_path: Path, docker_engine: DockerEngine, busybox_image: oci.BuiltImage) -> Profile:
    """A small platform whose base image the engine has, as one that it had pulled: one Dockerfile, two tags."""
    assert "localhost/busybox:1" in docker_engine.docker("load", "--input", busybox_image.archive)
    context = tmp_path / "app"
    (context / "src").mkdir(parents=True)
    texts = {
        "Dockerfile": DOCKERFILE,
        ".dockerignore": "*\n!requirements.lock\n!src\n**/*.pyc\n",
        "requirements.lock": "",
        "secret.txt": "not to be sent",
        "src/main.sh": MAIN,
        "src/left.pyc": "not to be sent",
    }
    for name, text in texts.items():
        (context / name).write_text(text)
    tags = {f"docker-test/{word}:e2e": {"WORD": word} for word in ("one", "two")}
    build = ImageBuild(context="app", tags=tags)
    return Profile(root=tmp_path, name="test", overlay=".", namespace="test", images=(build,))


def built(profile: Profile) -> list[oci.BuiltImage]:
    """Build with a cache of the test's own."""
    settings = Settings(cache_dir=profile.root / "cache")
    return images.build_images(profile, settings, logs=profile.root / "logs", progress=print)


def test_an_engine_builds_the_form_of_our_dockerfiles(profile: Profile, docker_engine: DockerEngine) -> None:
    """Secrets are read and not kept, ignored files are not sent, tags share their layers, and the archive is OCI."""
    one, two = built(profile)
    assert [image.source for image in (one, two)] == ["built", "built"]
    log = (profile.root / "logs" / "build-one.txt").read_text()
    assert "nothing is kept" in log
    with tarfile.open(one.archive) as tar:
        configs = [json.load(tar.extractfile(f"blobs/sha256/{image.digest[7:]}")) for image in (one, two)]
        names = [member.name for member in tar]
        merged: dict[str, bytes] = {}
        for diff_id in configs[0]["rootfs"]["diff_ids"]:
            with tarfile.open(fileobj=tar.extractfile(f"blobs/sha256/{diff_id[7:]}")) as layer:
                merged |= {member.name: layer.extractfile(member).read() for member in layer if member.isfile()}
    assert len(names) == len(set(names))
    assert configs[0]["rootfs"] == configs[1]["rootfs"]
    assert [config["config"]["User"] for config in configs] == ["65532:65532"] * 2
    assert "WORD=one" in configs[0]["config"]["Env"]
    assert "WORD=two" in configs[1]["config"]["Env"]
    assert {name for name in merged if name.startswith("app/")} == {"app/main.sh"}
    assert int(merged["venv/pip-lines"]) >= 1
    assert "etc/pip.conf" not in merged
    assert not any(name.startswith("run/") for name in merged)
    assert {image.source for image in built(profile)} == {"cached"}


def test_an_engines_images_reach_a_node_and_run(
    profile: Profile, provider: LocalProvider, cluster: Cluster, kubectl, namespace: str
) -> None:
    """What the engine built is loaded once, verified in the node, and runs without root under `restricted`."""
    one, two = built(profile)
    records = images.load_and_verify(provider, cluster.name, [one, two], print)
    assert [(record.reference, record.digest) for record in records] == [(i.reference, i.digest) for i in (one, two)]
    kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    container = {
        "name": "it",
        "image": two.reference,
        "imagePullPolicy": "Never",
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    security = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "it"},
        "spec": {"automountServiceAccountToken": False, "securityContext": security, "containers": [container]},
    }
    kubectl("apply", "-n", namespace, "-f", "-", stdin=json.dumps(pod))
    kubectl("wait", "-n", namespace, "--for=condition=Ready", "pod/it", "--timeout=60s")
    deadline = time.monotonic() + 30
    while len(printed := kubectl("logs", "-n", namespace, "it").splitlines()) < 2:
        assert time.monotonic() < deadline, f"the container printed {printed}"
        time.sleep(0.2)
    bundle = build_access.ca_bundle({})
    authorities = bundle.read_text().count("BEGIN") if bundle else "none"
    assert printed[0] == f"two 65532 {authorities} /app/main.sh"
    assert "Permission denied" in printed[1]
    seen = kubectl.get("pod", "it", "-n", namespace)["status"]["containerStatuses"][0]["imageID"]
    assert seen == two.digest


def test_a_build_that_fails_in_an_engine_says_its_last_words(profile: Profile) -> None:
    """The error has the step's output and the log's path, and no entry stays in the cache; mended, it builds."""
    dockerfile = profile.root / "app" / "Dockerfile"
    dockerfile.write_text(DOCKERFILE.replace("COPY src", "RUN echo no such thing as $((6*7)) >&2 && exit 9\nCOPY src"))
    with pytest.raises(EnvironmentFailure, match=r"image docker-test/one:e2e could not be built: (?s:.*)as 42") as it:
        built(profile)
    assert str(profile.root / "logs" / "build-one.txt") in it.value.hint
    assert list((profile.root / "cache" / "images").iterdir()) == []
    dockerfile.write_text(DOCKERFILE)
    assert len(built(profile)) == 2


def test_a_build_ends_in_the_engine_when_the_kit_is_killed(profile: Profile, docker_engine: DockerEngine) -> None:
    """After SIGKILL of the kit in the middle of a step its client is gone, and the engine has ended the step."""
    sleep = f"sleep {600 + time.monotonic_ns() % 10**6}"
    dockerfile = profile.root / "app" / "Dockerfile"
    dockerfile.write_text(DOCKERFILE.replace("COPY src", f"RUN busybox {sleep}\nCOPY src"))
    program = textwrap.dedent(f"""
        import sys; sys.path[:] = {sys.path!r}
        from pathlib import Path
        from tests.cluster.test_docker_engine import Profile, ImageBuild, built
        build = ImageBuild(context="app", tags={{"docker-test/killed:e2e": {{"WORD": "killed"}}}})
        built(Profile(root=Path({str(profile.root)!r}), name="t", overlay=".", namespace="t", images=(build,)))
    """)
    scratch = profile.root / "scratch"
    scratch.mkdir()
    child = subprocess.Popen([sys.executable, "-c", program], env={**os.environ, "TMPDIR": str(scratch)})
    try:
        wait_for("the step", lambda: bool(processes(sleep)) or Pending("not reached"), timeout_s=60)
        assert processes(str(dockerfile)) != []
    finally:
        child.kill()
        child.wait()
    assert list(scratch.rglob("*pip*")) == []  # secrets are in no file
    mine = (str(dockerfile), sleep)
    ended = lambda: not any(map(processes, mine)) or Pending(f"{[*map(processes, mine)]}")  # noqa: E731
    wait_for("client and step to end", ended, timeout_s=20)
    dockerfile.write_text(DOCKERFILE)
    assert len(built(profile)) == 2


def test_images_are_built_by_the_engine_whatever_builder_is_current(
    profile: Profile, docker_engine: DockerEngine
) -> None:
    """A builder in a container of its own, as one action sets it up, cannot see the engine's images: it is not used."""
    if not docker_engine.buildx.exists():
        pytest.skip("Docker 20.10 comes without buildx")
    docker_engine.docker("buildx", "create", "--name", "other", "--driver", "docker-container", "--use")
    try:
        assert "other*" in docker_engine.docker("buildx", "ls")
        assert len(built(profile)) == 2
    finally:
        docker_engine.docker("buildx", "rm", "other")


def test_the_doctor_sees_the_engine(docker_engine: DockerEngine) -> None:
    """An engine that answers is found by its address in the environment, and is enough to build images."""
    assert docker.answers()
    check = next(check for check in doctor.examine(Settings()) if check.name == "Docker engine")
    assert check.ok
    assert check.found.endswith(" answers")


def test_a_client_that_needs_buildx_and_has_none(profile: Profile, docker_engine: DockerEngine) -> None:
    """It is said, with what to install, and buildah builds the images where it can be had; an old client needs none."""
    if not docker_engine.buildx.exists():
        assert docker.build_command() == ["docker", "build"]
        return
    hidden = docker_engine.buildx.rename(docker_engine.buildx.with_name("hidden"))
    try:
        with pytest.raises(EnvironmentFailure, match=r"docker 29.* plugin buildx alone, which is not installed") as it:
            docker.build_command()
        check = next(check for check in doctor.examine(Settings()) if check.name == "Docker engine")
        said: list[str] = []
        builds = image_builds.ImageBuilds(Settings(), logs=profile.root, progress=said.append)
    finally:
        hidden.rename(docker_engine.buildx)
    assert "docker-buildx-plugin" in it.value.hint
    assert check.ok
    assert " answers, but docker 29" in check.found
    assert check.found.endswith("buildah builds the images")
    assert builds._docker is None
    assert said == [f"{it.value.message}: images are built by buildah"]


def test_a_base_image_is_pulled_from_its_registry(
    profile: Profile, docker_engine: DockerEngine, busybox_image: oci.BuiltImage, tmp_path: Path
) -> None:
    """A base image that the engine does not have is pulled once; another one under the same name is another input."""
    name = f"{registry.ADDRESS}/base:{time.monotonic_ns()}"
    dockerfile = profile.root / "app" / "Dockerfile"
    dockerfile.write_text(DOCKERFILE.replace("localhost/busybox:1", name))
    with registry.serving(docker_engine.pid, tmp_path / "registry") as served:
        served.push(busybox_image, name.partition("/")[2])
        assert [image.source for image in built(profile)] == ["built"] * 2
    assert [image.source for image in built(profile)] == ["cached"] * 2
    docker_engine.docker("tag", "docker-test/one:e2e", name)
    assert docker.Docker(Settings()).base_id(name) != docker.Docker(Settings()).base_id("localhost/busybox:1")


def test_privileged_containers_run(docker_engine: DockerEngine, busybox_image: oci.BuiltImage) -> None:
    """What kind asks of an engine works here, too: a privileged container, and a privileged command in it."""
    docker_engine.docker("load", "--input", busybox_image.archive)
    words = ["--detach", "--rm", "--privileged", "--name", "privileged", "--user", "0", "localhost/busybox:1"]
    docker_engine.docker("run", *words, "busybox", "sleep", "60")
    try:
        mounted = "busybox mount -t tmpfs tmpfs /tmp && busybox grep -c ' /tmp tmpfs' /proc/mounts"
        assert docker_engine.docker("exec", "--privileged", "privileged", "sh", "-ec", mounted).strip() == "1"
    finally:
        docker_engine.docker("kill", "privileged")


def test_an_engine_leaves_nothing(local_settings: Settings, docker_engine: DockerEngine) -> None:
    """An engine of the tests' own that is killed in its work takes its processes, mounts, files and groups with it."""
    cards = Path("/proc/net/dev").read_text().splitlines()
    with DockerEngine(local_settings) as engine:
        assert engine.docker("image", "ls", "--quiet") == ""
        assert processes(str(engine.root))
        assert engine.root != docker_engine.root
    assert processes(str(engine.root)) == []
    assert not engine.root.exists()
    assert [path for path in engine.cgroup.paths if path.exists()] == []
    assert str(engine.root) not in Path("/proc/self/mountinfo").read_text()
    assert len(cards) == len(Path("/proc/net/dev").read_text().splitlines())
    assert process.run(["docker", "version"], timeout_s=10, env=engine.environment, check=False).code != 0
