"""A real image registry beside a local cluster's node: on its loopback, where a container runtime takes plain HTTP."""

import contextlib
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

from k8s_e2e.base import process
from k8s_e2e.base.wait import Pending, wait_for
from k8s_e2e.cluster import assets, oci
from k8s_e2e.cluster.bundles import Bundle, GoBuild
from k8s_e2e.model.settings import Settings

ADDRESS = "127.0.0.1:5000"  # nobody else is on that loopback
CRANE = Bundle(
    name="crane",
    provides={"crane": "bin/crane"},
    versions={"crane": "0.20.6"},
    build=GoBuild(
        module="crane",
        within=Path(__file__).resolve().parents[1] / "tools",
        output="bin/crane",
        package="github.com/google/go-containerregistry/cmd/crane",
    ),
)


class Registry:
    """A registry that serves, and how to push to it."""

    def __init__(self, crane: list[str | Path]) -> None:
        self._crane = crane

    def push(self, image: oci.BuiltImage, name: str) -> str:
        """Push an image as ``name`` (repository and tag) and return the digest of its manifest."""
        with tempfile.TemporaryDirectory(prefix="k8s-e2e-push-") as scratch:
            layout = Path(scratch, "layout")
            with tarfile.open(oci.merge([image], Path(scratch, "image.tar"))) as archive:
                archive.extractall(layout, filter="data")
            done = process.run([*self._crane, "push", "--insecure", layout, f"{ADDRESS}/{name}"], timeout_s=120)
        return done.stdout.strip().rpartition("@")[2]


@contextlib.contextmanager
def serving(pid: int, disk: Path) -> Iterator[Registry]:
    """Serve a registry in the network namespace of process ``pid``, its blobs in ``disk``, until the block ends."""
    home, _, _ = assets.obtain(CRANE, Settings(), print)
    crane: list[str | Path] = ["nsenter", "-t", str(pid), "-n", home / "bin" / "crane"]
    disk.mkdir()
    with (disk.parent / "registry.log").open("w") as log:
        server = subprocess.Popen(
            [*crane, "registry", "serve", "--address", ADDRESS, "--disk", disk], stdout=log, stderr=log
        )
    try:

        def answers() -> bool | Pending:
            done = process.run([*crane, "catalog", "--insecure", ADDRESS], timeout_s=10, check=False)
            return done.code == 0 or Pending(done.stderr)

        wait_for("the registry to answer", answers, timeout_s=20)
        yield Registry(crane)
    finally:
        server.terminate()
        server.wait(10)
