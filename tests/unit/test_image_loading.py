"""Loading images: what is missing goes in one archive, and a node that lies or loses is found out."""

import fcntl
import multiprocessing
import threading
import time
from pathlib import Path

import pytest

from k8s_e2e.base.errors import EnvironmentFailure
from k8s_e2e.base.lock import locked
from k8s_e2e.base.progress import silent
from k8s_e2e.cluster import images, oci
from k8s_e2e.cluster.oci_archive import Archive
from k8s_e2e.cluster.provider import LoadedImage


class Node:
    """A provider whose node may lose an image or keep an old one."""

    name = "faulty"

    def __init__(self, *, loses: str = "", has: tuple[LoadedImage, ...] = ()) -> None:
        self.there = {image.reference: image for image in has}
        self.loses = loses
        self.loads: list[list[str]] = []

    def load(self, name: str, archive: Path, *, progress) -> None:
        """Take what the archive holds, but for what is lost."""
        with Archive(archive) as opened:
            references = opened.references()
            self.loads.append(references)
            for reference in references:
                if reference != self.loses:
                    digest = opened.manifest(reference).config.digest
                    self.there[reference] = LoadedImage(reference=reference, digest=digest, bytes=7)

    def images(self, name: str) -> list[LoadedImage]:
        """List what is there."""
        return list(self.there.values())


@pytest.fixture
def built(tmp_path):
    """Two images of one program."""
    program = tmp_path / "program"
    program.write_bytes(b"program")
    return [
        oci.single_binary_image(tmp_path / f"{tag}.tar", f"turbo/{tag}:e2e", ["/it"], {"/it": program}, env={"A": tag})
        for tag in ("a", "b")
    ]


def test_only_what_is_missing_is_loaded_and_once(built):
    """All that the node lacks goes in one archive; the second time nothing does."""
    node = Node()
    records = images.load_and_verify(node, "c", built, silent)
    assert node.loads == [["docker.io/turbo/a:e2e", "docker.io/turbo/b:e2e"]]
    assert [(record.reference, record.digest, record.bytes, record.source) for record in records] == [
        (image.reference, image.digest, 7, "built") for image in built
    ]
    assert images.load_and_verify(node, "c", built, silent) == records
    assert len(node.loads) == 1


def test_an_image_of_the_same_name_but_other_content_is_replaced(built):
    """A node with last run's image gets this one's."""
    node = Node(has=(LoadedImage(reference="docker.io/turbo/a:e2e", digest="sha256:old"),))
    images.load_and_verify(node, "c", built, silent)
    assert node.loads == [["docker.io/turbo/a:e2e", "docker.io/turbo/b:e2e"]]


def test_an_image_that_the_node_lost_is_named(built):
    """Loading that ended well but left an image out ends the run, before anything is applied."""
    with pytest.raises(EnvironmentFailure, match=r"cluster c does not have turbo/b:e2e;") as caught:
        images.load_and_verify(Node(loses="docker.io/turbo/b:e2e"), "c", built, silent)
    assert caught.value.exit_code == 3


def test_an_archive_that_is_gone_is_named(built):
    """A cache that was emptied meanwhile is one clear line."""
    built[1].archive.unlink()
    with pytest.raises(EnvironmentFailure, match=r"image archive .*/b.tar cannot be used"):
        images.load_and_verify(Node(), "c", built, silent)


def test_a_lock_makes_the_second_wait_and_says_so(tmp_path):
    """Whoever comes second hears what it waits for, and goes on when the first is done."""
    said: list[str] = []
    inside, order = threading.Event(), []

    def first() -> None:
        with locked(tmp_path / "lock", what="it", timeout_s=5, progress=silent):
            inside.set()
            time.sleep(0.3)
            order.append("first")

    thread = threading.Thread(target=first)
    thread.start()
    inside.wait(5)
    with locked(tmp_path / "lock", what="it", timeout_s=5, progress=said.append):
        order.append("second")
    thread.join()
    assert order == ["first", "second"]
    assert said == ["waiting for another process: it"]


def test_a_lock_that_is_never_free_ends_with_an_error(tmp_path):
    """The wait has a deadline, and names the file."""
    with (tmp_path / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with (
            pytest.raises(EnvironmentFailure, match=r"waited 0.2 s for it; .* it holds .*/lock"),
            locked(tmp_path / "lock", what="it", timeout_s=0.2, progress=silent),
        ):
            pass


def _hold(path: Path, ready) -> None:
    with locked(path, what="it", timeout_s=5, progress=silent):
        ready.set()
        time.sleep(60)


def test_a_lock_goes_with_the_process_that_held_it(tmp_path):
    """A holder that is killed does not block the next one."""
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    holder = context.Process(target=_hold, args=(tmp_path / "lock", ready))
    holder.start()
    assert ready.wait(30)
    holder.kill()
    holder.join()
    with locked(tmp_path / "lock", what="it", timeout_s=2, progress=silent):
        pass
    holder.close()
