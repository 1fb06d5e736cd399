"""Copy what a Python service needs at run time to a directory: run inside the `build` image by the Dockerfile.

Left behind: package managers, documentation, locales, pip, test suites, GUI and legacy modules, and every library
that nothing left needs. What stays is compiled; its bytecode is never checked against the source ("unchecked-hash"),
so neither a read-only root nor file times cost a service its start.
"""

import compileall
import os
import py_compile
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

LEFT_OUT = (
    # modules of the standard library that no server needs: GUI, teaching, tests, packaging, removed in 3.13
    "test", "tests", "idlelib", "tkinter", "turtledemo", "turtle.py", "lib2to3", "pydoc_data", "ensurepip", "venv",
    "distutils", "config-*", "__pycache__", "EXTERNALLY-MANAGED",
    # extension modules that would each pull a library in
    "_tkinter.*", "_dbm.*", "_gdbm.*", "nis.*", "_curses*", "readline.*", "ossaudiodev.*", "_test*", "_xx*", "xx*",
    # encodings of Chinese, Japanese and Korean before Unicode
    "_codecs_*",
)  # fmt: skip
ALWAYS = (
    # loaded at run time only
    "libgcc_s.so.1", "libstdc++.so.6", "libnss_files.so.2", "libnss_dns.so.2",
    # empty since glibc 2.34, but wheels built against an older one still ask for them
    "libpthread.so.0", "libdl.so.2", "librt.so.1", "libutil.so.1", "libm.so.6", "libresolv.so.2",
)  # fmt: skip
USER = "nonroot:x:65532:65532:nonroot:/tmp:/sbin/nologin\n"


def copy(source: Path, target: Path) -> Path:
    """Copy the file that is found at ``source`` to the same path below ``target``."""
    there = target / source.relative_to("/")
    there.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source, there)
    return there


def libraries(program: Path) -> set[Path]:
    """Return the shared libraries that ``program`` loads, and the loader itself, as the loader lists them."""
    loader = next(iter(sorted(Path("/").glob("lib*/ld-linux*"))))
    listed = subprocess.run([loader, "--list", program], capture_output=True, text=True, check=False).stdout
    return {loader} | {Path(path) for path in re.findall(r"=> (/\S+)", listed)}


def main(target: Path) -> None:
    """Fill ``target``."""
    interpreter = Path(os.path.realpath(sys.executable))
    library = Path(sysconfig.get_path("stdlib"))
    copy(interpreter, target)
    for name in ("python3", "python"):
        (target / "usr/bin" / name).symlink_to(interpreter.name)
    there = target / library.relative_to("/")
    shutil.copytree(library, there, symlinks=False, ignore=shutil.ignore_patterns(*LEFT_OUT), ignore_dangling_symlinks=True)

    needed = libraries(interpreter)
    for extension in sorted(there.rglob("*.so")):
        needed |= libraries(extension)
    folder = next(path for path in needed if path.name.startswith("libc.so")).parent
    for name in ALWAYS:
        needed |= {found for place in (folder, "/usr" / folder.relative_to("/")) if (found := place / name).exists()}
    for path in sorted(needed):
        copy(path, target)

    copy(Path("/bin/busybox"), target)
    (target / "bin/sh").symlink_to("busybox")
    (target / "usr/local/bin").mkdir(parents=True)
    subprocess.run(["/bin/busybox", "--install", "-s", target / "usr/local/bin"], check=True)
    copy(Path("/etc/ssl/certs/ca-certificates.crt"), target)
    (target / "usr/lib/ssl").mkdir(parents=True)
    (target / "usr/lib/ssl/cert.pem").symlink_to("/etc/ssl/certs/ca-certificates.crt")
    (target / "etc/passwd").write_text(Path("/etc/passwd").read_text() + USER)
    (target / "etc/group").write_text(Path("/etc/group").read_text() + "nonroot:x:65532:\n")
    (target / "etc/nsswitch.conf").write_text("passwd: files\ngroup: files\nhosts: files dns\n")
    (target / "tmp").mkdir()
    (target / "tmp").chmod(0o1777)

    compileall.compile_dir(
        there, quiet=1, stripdir=str(target), invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH
    )


main(Path(sys.argv[1]))
