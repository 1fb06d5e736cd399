"""The tests of what is shipped: wheels, built once, in an environment that has nothing of the checkout.

python tests/wheel.py build DIST                      needs hatchling, as in .venv
python tests/wheel.py test DIST [pytest arguments]    needs nothing but Python
python tests/wheel.py both [pytest arguments]

`both` is `task test:wheel`; CI builds in one job and tests in others.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PARTS = (".", "operator", "services")
QUICK = "not cluster and not browser and not mainjob and not soak and not tool and not kill"  # as in the launcher
NOTHING_LACKS, SOMETHING_LACKS = 0, 3  # what doctor exits with


def build(dist: Path) -> None:
    """Build the wheel of each part into ``dist``, without fetching a build backend."""
    for part in PARTS:
        argv = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(dist.absolute())]
        subprocess.run(argv, cwd=ROOT / part, check=True)


def test(dist: Path, options: list[str]) -> int:
    """Install the wheels in ``dist`` and the locked dependencies elsewhere, try the commands, run the quick tests."""
    with tempfile.TemporaryDirectory(prefix="k8s-e2e-wheel-") as folder:
        python = _environment(Path(folder, "venv"), sorted(dist.absolute().glob("*.whl")))
        _try_commands(python.parent / "k8s-e2e", Path(folder))
        argv = [python, "-m", "pytest", "-p", "tests.installed", "-m", QUICK, "-p", "no:cacheprovider", *options]
        return subprocess.run(argv, cwd=ROOT, env=_clean(), check=False).returncode


def _environment(venv: Path, wheels: list[Path]) -> Path:
    """Make an environment and return its Python."""
    if len(wheels) != len(PARTS):
        sys.exit(f"{len(wheels)} wheels where {len(PARTS)} were expected: {', '.join(wheel.name for wheel in wheels)}")
    uv = shutil.which("uv", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
    subprocess.run([sys.executable, "-m", "venv", *(["--without-pip"] if uv else []), venv], check=True)
    python = venv / "bin" / "python"
    install = [uv, "pip", "install", "--python", python] if uv else [python, "-m", "pip", "install"]
    subprocess.run([*install, "-q", "--require-hashes", "-r", ROOT / "requirements.lock"], check=True)
    subprocess.run([*install, "-q", "--no-deps", *wheels], check=True)
    return python


def _try_commands(kit: Path, elsewhere: Path) -> None:
    """Run commands in a directory that is in no checkout: what they read must have come with the wheel."""
    for words, codes in (
        (["--help"], {0}),
        (["schema", "scenario"], {0}),
        (["doctor"], {NOTHING_LACKS, SOMETHING_LACKS}),
    ):
        done = subprocess.run(
            [kit, *words], cwd=elsewhere, env=_clean(), stdout=subprocess.PIPE, text=True, check=False
        )
        print(f"k8s-e2e {' '.join(words)}: exit code {done.returncode}, {len(done.stdout)} characters", flush=True)  # noqa: T201
        if done.returncode not in codes or not done.stdout:
            sys.exit(f"k8s-e2e {' '.join(words)} does not work outside of the checkout")


def _clean() -> dict[str, str]:
    """Return this environment without what would bring the checkout's own packages back in."""
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line; what it does not know is pytest's."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("build", "test"):
        commands.add_parser(name).add_argument("dist", type=Path)
    commands.add_parser("both")
    return parser


def main() -> int:
    """Do what the command line asks; return the exit code."""
    options, rest = parser().parse_known_args()
    if options.command == "both":
        with tempfile.TemporaryDirectory(prefix="k8s-e2e-dist-") as dist:
            build(Path(dist))
            return test(Path(dist), rest)
    if options.command == "build":
        build(options.dist)
        return 0
    return test(options.dist, rest)


if __name__ == "__main__":
    sys.exit(main())
