"""Release downloads against a local server that can also misbehave."""

import hashlib
import io
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from k8s_e2e.base.errors import EnvironmentFailure
from k8s_e2e.base.files import DiskFull
from k8s_e2e.base.progress import silent
from k8s_e2e.cluster import download
from k8s_e2e.cluster.bundles import Release
from k8s_e2e.cluster.download import ChecksumWrong, Unreachable

PROGRAM = b"#!/bin/sh\necho a program\n" * 1000


class Mirror:
    """A server of release files; ``cuts`` of the next answers for a path end in the middle."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.cuts: dict[str, int] = {}
        self.asked: list[tuple[str, str]] = []  # path, Range
        mirror = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                mirror.asked.append((self.path, self.headers.get("Range", "")))
                content = mirror.files.get(self.path)
                if content is None:
                    self.send_error(404)
                    return
                start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
                self.send_response(206 if start else 200)
                self.send_header("Content-Length", str(len(content) - start))
                self.end_headers()
                rest = content[start:]
                if mirror.cuts.get(self.path, 0):
                    mirror.cuts[self.path] -= 1
                    rest = rest[: len(rest) // 2]
                self.wfile.write(rest)

            def log_message(self, *_: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def add(self, path: str, content: bytes, *, checksum: str = "") -> None:
        """Serve a file, and its (or another) checksum."""
        self.files[path] = content
        self.files[f"{path}.sha256"] = (checksum or hashlib.sha256(content).hexdigest()).encode()


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    """A local mirror."""
    served = Mirror()
    yield served
    served.server.shutdown()
    served.server.server_close()


def release(members: dict[str, str], url: str = "https://releases.invalid/v1/program") -> Release:
    """A release that would be on a host that does not exist."""
    return Release(url=url, checksum_url=f"{url}.sha256", members=members)


def fetch(wanted: Release, into: Path, mirror_url: str) -> None:
    """Fetch without a word."""
    download.fetch(wanted, into, mirror_url=mirror_url, timeout_s=20, progress=silent)


def archive(files: dict[str, bytes]) -> bytes:
    """A .tar.gz of these files."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return raw.getvalue()


def test_plain_file_arrives_executable(mirror: Mirror, tmp_path: Path) -> None:
    """A file with the right checksum is put in place as a program, and nothing else is left."""
    mirror.add("/v1/program", PROGRAM)
    fetch(release({"": "bin/program"}), tmp_path, mirror.url)
    assert (tmp_path / "bin" / "program").read_bytes() == PROGRAM
    assert (tmp_path / "bin" / "program").stat().st_mode & 0o111
    assert [path.name for path in tmp_path.iterdir()] == ["bin"]


def test_wrong_checksum_is_never_used(mirror: Mirror, tmp_path: Path) -> None:
    """Content that is not what the checksum says is thrown away, and the error names both sums."""
    mirror.add("/v1/program", PROGRAM, checksum="0" * 64)
    with pytest.raises(ChecksumWrong, match=f"checksum {hashlib.sha256(PROGRAM).hexdigest()}, not {'0' * 64}"):
        fetch(release({"": "bin/program"}), tmp_path, mirror.url)
    assert list(tmp_path.iterdir()) == []


def test_cut_transfer_is_resumed(mirror: Mirror, tmp_path: Path) -> None:
    """A transfer that is cut goes on where it ended."""
    mirror.add("/v1/program", PROGRAM)
    mirror.cuts["/v1/program"] = 2
    fetch(release({"": "program"}), tmp_path, mirror.url)
    assert (tmp_path / "program").read_bytes() == PROGRAM
    half = len(PROGRAM) // 2
    quarter = (len(PROGRAM) - half) // 2
    assert [asked for path, asked in mirror.asked if path == "/v1/program"] == [
        "",
        f"bytes={half}-",
        f"bytes={half + quarter}-",
    ]


def test_transfer_cut_again_and_again_fails(mirror: Mirror, tmp_path: Path) -> None:
    """Three cut transfers are an error; nothing half is left."""
    mirror.add("/v1/program", PROGRAM)
    mirror.cuts["/v1/program"] = 99
    with pytest.raises(EnvironmentFailure, match="was cut 3 times"):
        fetch(release({"": "program"}), tmp_path, mirror.url)
    assert list(tmp_path.iterdir()) == []


def test_member_of_archive(mirror: Mirror, tmp_path: Path) -> None:
    """The named members of an archive are taken out, the rest is left; its checksum may stand in a list."""
    content = archive({"folder/etcd": b"etcd", "folder/etcdctl": b"ctl"})
    mirror.files["/v1/etcd.tar.gz"] = content
    mirror.files["/v1/SUMS"] = (
        f"{'1' * 64}  other.tar.gz\n{hashlib.sha256(content).hexdigest()} *./etcd.tar.gz\n".encode()
    )
    base = "https://releases.invalid/v1"
    wanted = Release(url=f"{base}/etcd.tar.gz", checksum_url=f"{base}/SUMS", members={"folder/etcd": "bin/etcd"})
    fetch(wanted, tmp_path, mirror.url)
    assert [path.name for path in (tmp_path / "bin").iterdir()] == ["etcd"]


def test_whole_archive(mirror: Mirror, tmp_path: Path) -> None:
    """All files of an archive can be taken into one directory; a path out of it stays inside."""
    mirror.add("/v1/cni.tgz", archive({"./bridge": b"1", "../../portmap": b"2"}))
    fetch(release({"*": "cni"}, "https://releases.invalid/v1/cni.tgz"), tmp_path, mirror.url)
    assert sorted(path.name for path in (tmp_path / "cni").iterdir()) == ["bridge", "portmap"]


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"no archive at all", "no usable archive"), (archive({"other": b""}), "holds no wanted")],
    ids=["unreadable", "without the member"],
)
def test_archive_that_is_none(mirror: Mirror, tmp_path: Path, content: bytes, message: str) -> None:
    """An archive that cannot be read, or lacks what is wanted, is an error that says so."""
    mirror.add("/v1/x.tgz", content)
    with pytest.raises(EnvironmentFailure, match=message):
        fetch(release({"wanted": "wanted"}, "https://releases.invalid/v1/x.tgz"), tmp_path, mirror.url)


@pytest.mark.parametrize("full", [".x.tgz.part", "wanted"], ids=["the transfer", "the member"])
def test_full_disk_is_told_as_such(mirror: Mirror, tmp_path: Path, full: str) -> None:
    """No room for the archive or for what is taken out of it is not a damaged archive."""
    mirror.add("/v1/x.tgz", archive({"wanted": PROGRAM}))
    (tmp_path / full).symlink_to("/dev/full")
    with pytest.raises(DiskFull, match=r"no space left while writing .*K8S_E2E_CACHE_DIR"):
        fetch(release({"wanted": "wanted"}, "https://releases.invalid/v1/x.tgz"), tmp_path, mirror.url)


def test_missing_file_or_checksum(mirror: Mirror, tmp_path: Path) -> None:
    """Without a published checksum nothing is fetched; a file that is not there is named."""
    mirror.files["/v1/program"] = PROGRAM
    with pytest.raises(EnvironmentFailure, match="no checksum for program"):
        fetch(release({"": "program"}), tmp_path, mirror.url)
    mirror.files["/v1/program.sha256"] = b"<html>not a checksum</html>"
    with pytest.raises(EnvironmentFailure, match="names no checksum for program"):
        fetch(release({"": "program"}), tmp_path, mirror.url)
    mirror.files = {"/v1/program.sha256": b"0" * 64}
    with pytest.raises(EnvironmentFailure, match=r"cannot fetch .*404"):
        fetch(release({"": "program"}), tmp_path, mirror.url)


def test_unreachable_host_is_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that does not answer is noticed, remembered and not asked again in this process."""
    monkeypatch.setattr(download, "_unreachable", {})
    nobody = "http://127.0.0.1:9"
    with pytest.raises(Unreachable, match=r"127.0.0.1:9 does not answer"):
        fetch(release({"": "program"}), tmp_path, nobody)
    monkeypatch.setattr(download, "internet_client", None)  # asking again would fail otherwise
    with pytest.raises(Unreachable, match=r"127.0.0.1:9 does not answer"):
        fetch(release({"": "program"}), tmp_path, nobody)
