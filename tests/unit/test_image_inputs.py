"""What decides an image: build key, .dockerignore, the shared part of a Dockerfile, base images, and build secrets."""

import os
from pathlib import Path

import pytest

from k8s_e2e.base.data import data_dir
from k8s_e2e.base.errors import UsageError
from k8s_e2e.cluster import base_image, build_access, dockerfile
from k8s_e2e.cluster.build_key import Ignore, build_key, context_files

TAGS = {"a:1": {"S": "a"}}


@pytest.fixture
def context(tmp_path):
    """A build context with sources, tests and leftovers."""
    for name, text in {
        "Dockerfile": "FROM scratch\nCOPY src /\n",
        ".dockerignore": "tests\n**/__pycache__\n*.log\n!keep.log\n",
        "src/main.py": "print()\n",
        "src/__pycache__/main.pyc": "x",
        "tests/test.py": "x",
        "run.log": "x",
        "keep.log": "x",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_the_context_is_what_a_builder_sends(context):
    """Ignored files are left out; Dockerfile and .dockerignore always count."""
    assert list(context_files(context)) == [".dockerignore", "Dockerfile", "keep.log", "src/main.py"]


@pytest.mark.parametrize(
    ("name", "text", "same"),
    [
        ("src/main.py", "print(1)\n", False),
        ("src/new.py", "", False),
        ("Dockerfile", "FROM scratch\n", False),
        ("tests/test.py", "changed", True),
        ("src/__pycache__/other.pyc", "new", True),
        ("run.log", "changed", True),
        ("keep.log", "changed", False),
    ],
)
def test_a_key_changes_with_what_is_built(context, name, text, same):
    """A change of an input is another key; a change of what is ignored is none."""
    before = build_key(context, "Dockerfile", TAGS, base="b")
    (context / name).write_text(text)
    assert (build_key(context, "Dockerfile", TAGS, base="b") == before) is same


def test_a_key_ignores_times_and_minds_modes_links_arguments_and_base(context):
    """Times do not count; the executable bit, a link's target, tags, arguments and the base image do."""
    keys = [build_key(context, "Dockerfile", TAGS, base="b")]
    os.utime(context / "src/main.py", (1, 1))
    assert build_key(context, "Dockerfile", TAGS, base="b") == keys[0]
    keys.append(build_key(context, "Dockerfile", TAGS, base="c"))
    keys.append(build_key(context, "Dockerfile", {"a:1": {"S": "b"}}, base="b"))
    keys.append(build_key(context, "Dockerfile", {"a:2": {"S": "a"}}, base="b"))
    (context / "src/main.py").chmod(0o755)
    keys.append(build_key(context, "Dockerfile", TAGS, base="b"))
    (context / "src/link").symlink_to("main.py")
    keys.append(build_key(context, "Dockerfile", TAGS, base="b"))
    assert len(set(keys)) == len(keys)


def test_files_that_swap_content_are_another_key(context):
    """A key keeps names and contents apart."""
    (context / "src/a").write_text("1")
    (context / "src/b").write_text("2")
    before = build_key(context, "Dockerfile", TAGS, base="b")
    (context / "src/a").write_text("2")
    (context / "src/b").write_text("1")
    assert build_key(context, "Dockerfile", TAGS, base="b") != before


def test_a_missing_dockerfile_is_named(tmp_path):
    """A profile that names no Dockerfile is one clear line."""
    with pytest.raises(UsageError, match=r"there is no Dockerfile .*/absent/Dockerfile; correct \[\[images\]\]"):
        build_key(tmp_path / "absent", "Dockerfile", TAGS, base="b")


@pytest.mark.parametrize(
    ("patterns", "ignored", "kept"),
    [
        ("*.log", ["a.log"], ["x/a.log", "a.logs"]),
        ("**/*.log", ["a.log", "x/y/a.log"], ["a.txt"]),
        ("/build", ["build", "build/x"], ["a/build", "builder"]),
        ("a/*/c", ["a/b/c", "a/b/c/d"], ["a/c", "a/b/d"]),
        ("*\n!src\n**/t", ["x", "src/t", "src/a/t/b"], ["src/a"]),
        ("x?y\n[ab].txt\n# no\n\n", ["xay", "a.txt"], ["xy", "c.txt", "# no"]),
        ("./dir/", ["dir/f"], ["dirs"]),
        (r"a\*b", ["a*b"], ["axb"]),
    ],
)
def test_ignore_patterns_mean_what_docker_says(patterns, ignored, kept):
    """Patterns match from the context's root, `**` any depth, `!` takes back, the last match decides."""
    rules = Ignore(patterns)
    assert [path for path in ignored if not rules(path)] == []
    assert [path for path in kept if rules(path)] == []


SHARED = "ARG BASE=x\nFROM ${BASE} AS build\nRUN a \\\n  && b\nFROM ${BASE}\nCOPY --from=build /a /b\n"


def test_images_part_where_their_argument_is_declared():
    """Everything before the ARG is shared, the settings after it are each image's own."""
    rest = "# why\nARG SERVICE\nENV S=${SERVICE}\n"
    assert dockerfile.split(SHARED + rest, {"SERVICE"}) == (SHARED + "# why\n", rest.removeprefix("# why\n"))


@pytest.mark.parametrize("more", ["RUN c\n", "COPY x y\n", "FROM scratch\nARG SERVICE\n"])
def test_images_that_differ_in_more_than_settings_share_nothing(more):
    """What follows the ARG must be able to stand on a finished image."""
    assert dockerfile.split(f"{SHARED}ARG SERVICE\nENV S=$SERVICE\n{more}", {"SERVICE"}) is None


def test_images_without_own_arguments_share_everything():
    """No such ARG, or one before the first FROM only, is no difference."""
    assert dockerfile.split(SHARED, {"SERVICE"}) == (SHARED, "")
    assert dockerfile.split(SHARED, {"BASE"}) == (SHARED, "")


def test_an_instruction_in_a_continued_line_is_none():
    """A word that looks like an instruction inside a RUN is part of the RUN."""
    text = "FROM x\nARG S\nENV A=$S \\\n  RUN=1\n"
    assert dockerfile.split(text, {"S"}) == ("FROM x\n", text.removeprefix("FROM x\n"))


def test_a_dockerfile_gets_the_base_images_that_it_declares():
    """With a stage of its own for installing, it runs in the trimmed image; without, it needs pip in the one it has."""
    both = base_image.declared(
        "ARG BASE_IMAGE=docker.io/library/python:3.12-slim\nARG BUILD_IMAGE=${BASE_IMAGE}\nFROM x"
    )
    assert both == {"BASE_IMAGE": "docker.io/library/python:3.12-slim", "BUILD_IMAGE": "${BASE_IMAGE}"}
    given = base_image.arguments(both)
    assert given["BASE_IMAGE"].startswith("localhost/k8s-e2e/python-run:")
    assert given["BUILD_IMAGE"].startswith("localhost/k8s-e2e/python-build:")
    alone = base_image.arguments(base_image.declared("ARG BASE_IMAGE=x\nFROM ${BASE_IMAGE}\n"))
    assert alone == {"BASE_IMAGE": given["BUILD_IMAGE"]}
    assert base_image.arguments(base_image.declared("FROM scratch\n")) == {}


@pytest.mark.parametrize("package", ["operator", "services"])
def test_our_dockerfiles_keep_to_the_contract(package):
    """Each takes its base images from outside, mounts the build secrets, and runs as a numeric non-root user."""
    text = (data_dir() / package / "Dockerfile").read_text()
    assert base_image.declared(text)["BASE_IMAGE"] == "docker.io/library/python:3.12-slim"
    assert "BUILD_IMAGE" in base_image.declared(text)
    assert f"id={build_access.PIP_CONF},target=/etc/pip.conf" in text
    assert f"id={build_access.CA_BUNDLE}" in text
    assert "USER 65532:65532" in text
    assert dockerfile.split(text, {"SERVICE"}) is not None


def secrets(environment: dict[str, str], *, directories: bool = True) -> tuple[str, build_access.BuildAccess]:
    """Return the pip configuration that a build gets, and the access itself."""
    access = build_access.granted(directories=directories, environment=environment)
    return access.pip_conf, access


def test_secrets_as_files_are_gone_after_the_build(tmp_path):
    """What a builder needs as a file is its owner's alone, and removed at the end; the host's own bundle stays."""
    bundle = tmp_path / "ca.pem"
    bundle.write_text("certificates")
    access = build_access.granted(directories=True, environment={"HOME": str(tmp_path), "PIP_CERT": str(bundle)})
    with access.secrets(tmp_path) as files:
        path = files[build_access.PIP_CONF]
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.read_text() == access.pip_conf
        assert files[build_access.CA_BUNDLE] == bundle
    assert list(tmp_path.iterdir()) == [bundle]


def test_a_build_reaches_packages_as_the_host_does(tmp_path):
    """Pip's index, mirrors and certificate authority reach the build; the user's own file and variables both count."""
    (tmp_path / ".config/pip").mkdir(parents=True)
    (tmp_path / ".config/pip/pip.conf").write_text(
        "[global]\nindex-url = https://mirror.test/simple\ntimeout = 5\nuser = yes\n[install]\nno-index = no\n"
    )
    bundle = tmp_path / "ca.pem"
    bundle.write_text("certificates")
    environment = {"HOME": str(tmp_path), "PIP_TIMEOUT": "9", "SSL_CERT_FILE": str(bundle)}
    text, access = secrets(environment)
    assert "index-url = https://mirror.test/simple\n" in text
    assert "timeout = 9\n" in text
    assert "no-index = no\n" in text
    assert "cert = /run/secrets/ca_bundle\n" in text
    assert "user" not in text
    assert access.ca_bundle == bundle


def test_wheels_in_a_directory_are_shown_where_the_builder_can(tmp_path):
    """Buildah shows the directory to the build; docker cannot, so the build is not sent there."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    links = f"{wheels} {tmp_path}/absent https://mirror.test/wheels"
    environment = {"HOME": str(tmp_path), "PIP_FIND_LINKS": links}
    text, access = secrets(environment)
    assert f"find-links = https://mirror.test/wheels\n    {wheels}\n" in text
    assert access.directories == (wheels,)
    text, access = secrets(environment, directories=False)
    assert "find-links = https://mirror.test/wheels\n" in text
    assert access.directories == ()


def test_a_host_that_reads_no_pip_configuration_passes_none(tmp_path):
    """PIP_CONFIG_FILE=/dev/null is pip's word for that."""
    (tmp_path / ".pip").mkdir()
    (tmp_path / ".pip/pip.conf").write_text("[global]\nindex-url = https://mirror.test/simple\n")
    assert "mirror" not in secrets({"HOME": str(tmp_path), "PIP_CONFIG_FILE": os.devnull})[0]
    assert "mirror" in secrets({"HOME": str(tmp_path)})[0]


def test_a_bundle_that_is_named_but_absent_is_passed_over(tmp_path):
    """A variable that points nowhere does not hide the system's certificate authorities."""
    found = build_access.ca_bundle({"PIP_CERT": str(tmp_path / "absent")})
    assert found is None or (found.is_file() and found != Path(tmp_path / "absent"))
