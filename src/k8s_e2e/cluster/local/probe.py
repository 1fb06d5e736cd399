"""Tries, in throwaway namespaces, what a local cluster asks of the kernel: ``python -m ...probe DIR [NFT]``.

Prints one JSON object: feature -> "" where it works, else why not. Nothing of it outlives the process.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from k8s_e2e.cluster.local import namespaces

_NAT = """
table ip probe {
  chain nat {
    type nat hook postrouting priority srcnat
    ct state new masquerade
  }
}
"""


def _overlay(directory: Path) -> None:
    for name in ("lower", "upper", "work", "merged"):
        (directory / name).mkdir()
    options = ",".join(f"{name}dir={directory / name}" for name in ("lower", "upper", "work"))
    namespaces.mount_overlay(directory / "merged", options)


def _links(*commands: str) -> None:
    done = subprocess.run(["ip", "-batch", "-"], input="\n".join(commands).encode(), capture_output=True, check=False)
    if done.returncode != 0:
        raise OSError(done.stderr.decode(errors="replace").strip().splitlines()[0])


def _nft(program: str) -> None:
    done = subprocess.run([program, "-f", "-"], input=_NAT.encode(), capture_output=True, check=False)
    if done.returncode != 0:
        raise OSError(done.stderr.decode(errors="replace").strip().splitlines()[0])


def _bridge_filtering() -> None:
    if not Path("/proc/sys/net/bridge/bridge-nf-call-iptables").exists():
        raise OSError("the module br_netfilter is not loaded")


def main(directory: Path, nft: str) -> dict[str, str]:
    """Try everything, in namespaces of our own; return feature -> why not."""
    attempts: dict[str, Callable[[], None]] = {
        "overlay": lambda: _overlay(directory),
        "veth": lambda: _links("link add probe0 type veth peer name probe1"),
        "bridge": lambda: _links("link add probe2 type bridge"),
        "bridge filtering": _bridge_filtering,
    }
    if nft:
        attempts["nftables"] = lambda: _nft(nft)
    found = {"namespaces": ""}
    for feature, attempt in attempts.items():
        try:
            attempt()
        except OSError as error:
            found[feature] = str(error)
        else:
            found[feature] = ""
    return found


if __name__ == "__main__":
    scratch, nft_program = Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else ""  # noqa: PLR2004
    try:
        namespaces.leave_host()
        if child := os.fork():  # the first child is PID 1 in there; others can only come while it lives
            sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        answer = main(scratch, nft_program)
    except OSError as error:
        answer = {"namespaces": str(error)}
    sys.stdout.write(json.dumps(answer))
