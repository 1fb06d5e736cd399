"""Seconds that `up` and `down` of a local cluster take, phase by phase: medians over several rounds.

    python bench/cluster.py --rounds 5 [--control-plane-only] [--load ARCHIVE]

A first round that is not counted warms the caches.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from k8s_e2e.base.progress import silent
from k8s_e2e.cluster.local.provider import LocalProvider
from k8s_e2e.model.settings import Settings


def main() -> None:
    """Make and remove a cluster several times and print medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--control-plane-only", action="store_true")
    parser.add_argument("--load", type=Path, help="an image archive to load each time")
    options = parser.parse_args()
    phases: dict[str, list[float]] = {}
    for number in range(options.rounds + 1):
        with tempfile.TemporaryDirectory() as state:
            provider = LocalProvider(Settings(state_dir=Path(state)))
            seen: dict[str, float] = {}
            began = time.monotonic()

            def heard(text: str, seen: dict[str, float] = seen, began: float = began) -> None:
                seen[text.split(" (", maxsplit=1)[0]] = time.monotonic() - began

            try:
                provider.up("bench", control_plane_only=options.control_plane_only, progress=heard)
                seen["UP"] = time.monotonic() - began
                if options.load:
                    provider.load("bench", options.load, progress=heard)
                    seen["LOAD"] = time.monotonic() - began - seen["UP"]
            finally:
                began_down = time.monotonic()
                provider.down("bench", progress=silent)
            seen["DOWN"] = time.monotonic() - began_down
            label = f"round {number}" if number else "warm-up"
            print(f"{label}: up {seen['UP']:.2f} s, down {seen['DOWN']:.2f} s")
            if number:
                for name, seconds in seen.items():
                    phases.setdefault(name, []).append(seconds)
    print(f"\nmedian of {options.rounds}, seconds since `up` was called (and from, to)")
    for name, seconds_of in phases.items():
        print(f"{name:<32}{statistics.median(seconds_of):>7.2f}   {min(seconds_of):.2f} to {max(seconds_of):.2f}")


if __name__ == "__main__":
    main()
