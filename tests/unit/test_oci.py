"""OCI archives: written from files, joined, read back, taken from engines' archives; broken ones refused."""

import gzip
import hashlib
import io
import json
import os
import tarfile
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k8s_e2e.base.errors import EnvironmentFailure
from k8s_e2e.cluster import docker_archive, oci
from k8s_e2e.cluster.oci_archive import IMAGE_NAME, Archive


@pytest.fixture
def program(tmp_path):
    """An executable file."""
    path = tmp_path / "program"
    path.write_bytes(b"\x7fELF" + bytes(range(256)) * 64)
    path.chmod(0o755)
    return path


def single(folder: Path, reference: str, program: Path, **more) -> oci.BuiltImage:
    """Write an image of one program."""
    return oci.single_binary_image(folder / "image.tar", reference, ["/bin/it"], {"/bin/it": program}, **more)


def read(archive: Path) -> dict[str, bytes]:
    """Return the members of an archive."""
    with tarfile.open(archive) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}


@pytest.mark.parametrize(
    ("given_reference", "full"),
    [
        ("pause", "docker.io/library/pause:latest"),
        ("turbo/api:e2e", "docker.io/turbo/api:e2e"),
        ("localhost/api", "localhost/api:latest"),
        ("registry.k8s.io/pause:3.9", "registry.k8s.io/pause:3.9"),
        ("host:5000/api", "host:5000/api:latest"),
        ("quay.io/x/y@sha256:0123", "quay.io/x/y@sha256:0123"),
    ],
)
def test_references_are_spelled_out_as_containerd_has_them(given_reference, full):
    """Registry and tag that a short reference leaves out are added."""
    assert oci.full_reference(given_reference) == full


@given(st.from_regex(r"[a-z]{1,8}(/[a-z]{1,8}){0,2}(:[a-z0-9]{1,5})?", fullmatch=True))
def test_a_full_reference_stays_as_it_is(reference):
    """Spelling out twice changes nothing."""
    full = oci.full_reference(reference)
    assert oci.full_reference(full) == full


def test_an_image_of_one_program_says_all_that_a_runtime_needs(tmp_path, program):
    """Config, layer and digests of a written image agree, and it runs as the numeric user."""
    image = single(tmp_path / "out", "localhost/it:1", program, user="1234", env={"A": "b"})
    blobs = read(image.archive)
    index = json.loads(blobs["index.json"])
    assert index["manifests"][0]["annotations"][IMAGE_NAME] == "localhost/it:1"
    manifest = json.loads(blobs["blobs/sha256/" + index["manifests"][0]["digest"][7:]])
    config = json.loads(blobs["blobs/sha256/" + manifest["config"]["digest"][7:]])
    layer = blobs["blobs/sha256/" + manifest["layers"][0]["digest"][7:]]
    assert manifest["config"]["digest"] == image.digest
    assert config["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(layer).hexdigest()}"]
    assert config["config"]["User"] == "1234"
    assert config["config"]["Entrypoint"] == ["/bin/it"]
    assert "A=b" in config["config"]["Env"]
    with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
        inside = {member.name: (member.mode, member.uid, member.isdir()) for member in tar}
        assert tar.extractfile("bin/it").read() == program.read_bytes()
    assert inside == {"bin": (0o755, 0, True), "bin/it": (0o755, 0, False), "tmp": (0o1777, 0, True)}


def test_the_docker_manifest_names_the_same_blobs(tmp_path, program):
    """`docker load` finds config and layers of each image in manifest.json."""
    image = single(tmp_path / "out", "turbo/it:1", program)
    blobs = read(image.archive)
    (entry,) = json.loads(blobs["manifest.json"])
    assert entry["RepoTags"] == ["docker.io/turbo/it:1"]
    assert {entry["Config"], *entry["Layers"]} <= set(blobs)


def test_equal_input_gives_equal_bytes(tmp_path, program):
    """Neither the time nor where the file lies changes an archive."""
    first = single(tmp_path / "a", "localhost/it:1", program)
    os.utime(program, (1, 1))
    time.sleep(0.01)
    second = single(tmp_path / "b", "localhost/it:1", program)
    assert first.digest == second.digest
    assert first.archive.read_bytes() == second.archive.read_bytes()


def test_merged_images_share_blobs(tmp_path, program):
    """Joining images of one layer writes that layer once, and each keeps its digest."""
    images = [single(tmp_path / tag, f"turbo/it:{tag}", program, env={"T": tag}) for tag in ("a", "b", "c")]
    merged = oci.merge(images, tmp_path / "all.tar")
    layers = [name for name, raw in read(merged).items() if len(raw) > program.stat().st_size]
    assert len(layers) == 1
    again = oci.stored(merged, [image.reference for image in images], source="cached")
    assert [image.digest for image in again] == [image.digest for image in images]
    assert len({image.digest for image in again}) == 3
    with Archive(merged) as archive:
        assert archive.references() == [f"docker.io/turbo/it:{tag}" for tag in ("a", "b", "c")]


def test_merging_one_image_twice_is_harmless(tmp_path, program):
    """The same image under two names is two entries of the index and one set of blobs."""
    one = single(tmp_path / "a", "turbo/one:1", program)
    two = single(tmp_path / "b", "turbo/two:1", program)
    names = list(read(oci.merge([one, two], tmp_path / "all.tar")))
    assert len(names) == len(set(names))


def test_a_missing_file_is_named(tmp_path):
    """A program that is not there ends in one line that names it, and leaves nothing behind."""
    with pytest.raises(EnvironmentFailure, match=r"cannot put .*/absent into image localhost/it:1: No such file"):
        single(tmp_path / "out", "localhost/it:1", tmp_path / "absent")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("part", ["start", "middle", "end"])
def test_a_cut_archive_is_refused(tmp_path, program, part):
    """An archive cut anywhere is one clear error, and the target of a merge is not written."""
    image = single(tmp_path / "out", "localhost/it:1", program)
    raw = image.archive.read_bytes()
    image.archive.write_bytes(raw[: {"start": 100, "middle": len(raw) // 2, "end": raw.rindex(b"index.json")}[part]])
    with pytest.raises(EnvironmentFailure, match=r"image archive .*/image.tar cannot be used"):
        oci.merge([image], tmp_path / "all.tar")
    assert not (tmp_path / "all.tar").exists()


def test_a_blob_with_other_content_is_refused(tmp_path, program):
    """A flipped byte inside a layer is found by its digest."""
    image = single(tmp_path / "out", "localhost/it:1", program)
    raw = bytearray(image.archive.read_bytes())
    place = raw.index(b"\x7fELF") + 100
    raw[place] ^= 1
    image.archive.write_bytes(raw)
    with pytest.raises(EnvironmentFailure, match="has other content than its name says"):
        oci.merge([image], tmp_path / "all.tar")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_an_archive_without_the_image_says_what_it_holds(tmp_path, program):
    """Asking for another image names both."""
    image = single(tmp_path / "out", "localhost/it:1", program)
    with pytest.raises(EnvironmentFailure, match=r"it holds localhost/it:1, not docker.io/library/other:latest"):
        oci.stored(image.archive, ["other"], source="cached")


def engine_archive(path: Path, form: str, tag: str, layers: list[bytes]) -> None:
    """Write what an engine's `save` writes: docker before 25 (links), docker since 25 (blobs), containerd (gzip)."""
    digests = [hashlib.sha256(layer).hexdigest() for layer in layers]
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Env": [f"TAG={tag}"]},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}" for digest in digests]},
        }
    ).encode()
    names = [f"{number}x/layer.tar" if form == "links" else f"blobs/sha256/{d}" for number, d in enumerate(digests)]
    entry = {"Config": "cfg.json", "RepoTags": [tag], "Layers": names}
    with tarfile.open(path, "w") as tar:

        def add(name: str, raw: bytes) -> None:
            member = tarfile.TarInfo(name)
            member.size = len(raw)
            tar.addfile(member, io.BytesIO(raw))

        for name, digest, raw in zip(names, digests, layers, strict=True):
            if form == "links":
                add(f"{digest}.tar", raw)
                member = tarfile.TarInfo(name)
                member.type, member.linkname = tarfile.SYMTYPE, f"../{digest}.tar"
                tar.addfile(member)
            else:
                add(name, gzip.compress(raw) if form == "gzip" else raw)
        add("cfg.json", config)
        add("manifest.json", json.dumps([entry]).encode())


@pytest.mark.parametrize("form", ["links", "blobs", "gzip"])
def test_engines_archives_become_one(tmp_path, form):
    """Images from any engine end uncompressed in one archive, with their own config digests and shared layers."""
    layers = [b"base" * 5000, b"code" * 300]
    tags = ["turbo/a:e2e", "turbo/b:e2e"]
    for number, tag in enumerate(tags):
        engine_archive(tmp_path / f"{number}.tar", form, tag, layers)
    images = oci.repack([tmp_path / "0.tar", tmp_path / "1.tar"], tags, tmp_path / "all.tar")
    blobs = read(tmp_path / "all.tar")
    assert [image.reference for image in images] == tags
    assert len({image.digest for image in images}) == 2
    assert sum(raw in layers for raw in blobs.values()) == 2
    for name, raw in blobs.items():
        if name.startswith("blobs/"):
            assert hashlib.sha256(raw).hexdigest() == name.rpartition("/")[2]


def test_an_image_may_leave_out_layers_that_another_brought(tmp_path):
    """A config-only archive completes from the layers of the one before it."""
    engine_archive(tmp_path / "0.tar", "blobs", "turbo/a:e2e", [b"base" * 5000])
    with tarfile.open(tmp_path / "0.tar") as tar:
        config = tar.extractfile("cfg.json").read().replace(b"turbo/a", b"turbo/b")
    docker_archive.write_config_only(tmp_path / "1.tar", "turbo/b:e2e", config)
    images = oci.repack([tmp_path / "0.tar", tmp_path / "1.tar"], ["turbo/a:e2e", "turbo/b:e2e"], tmp_path / "all.tar")
    assert images[1].digest == f"sha256:{hashlib.sha256(config).hexdigest()}"
    with pytest.raises(EnvironmentFailure, match="it has no sha256:"):
        oci.repack([tmp_path / "1.tar"], ["turbo/b:e2e"], tmp_path / "alone.tar")


def test_a_layer_that_is_not_what_the_config_says_is_refused(tmp_path):
    """A layer that was changed after its config was written does not get in."""
    engine_archive(tmp_path / "0.tar", "blobs", "turbo/a:e2e", [b"base" * 5000])
    raw = (tmp_path / "0.tar").read_bytes().replace(b"basebase", b"BASEbase", 1)
    (tmp_path / "0.tar").write_bytes(raw)
    with pytest.raises(EnvironmentFailure, match="has other content"):
        oci.repack([tmp_path / "0.tar"], ["turbo/a:e2e"], tmp_path / "all.tar")
