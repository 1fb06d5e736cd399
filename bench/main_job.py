"""Seconds of the whole main job and of each stage, and what the notebooks add: medians over several runs.

    python bench/main_job.py --rounds 5

A first run that is not counted warms the caches.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

KIT = Path(sys.executable).parent / "k8s-e2e"


def _cells_s(run: Path, stage: str) -> float:
    """Return the seconds in which a cell of the stage's notebook ran: the library's own part of the stage."""
    cells = json.loads((run / "notebooks" / f"{stage}.ipynb").read_text())["cells"]
    return sum(cell["metadata"].get("papermill", {}).get("duration") or 0.0 for cell in cells)


def main() -> None:
    """Run the main job several times and print medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    wall: list[float] = []
    stages: dict[str, list[float]] = {}
    overhead: dict[str, list[float]] = {}
    for number in range(rounds + 1):
        with tempfile.TemporaryDirectory() as folder:
            run = Path(folder) / "run"
            began = time.monotonic()
            done = subprocess.run([KIT, "run", "--run-dir", run], capture_output=True, text=True, check=False)
            seconds = time.monotonic() - began
            if done.returncode != 0:
                print((run / "REPORT.md").read_text()[:3000] if (run / "REPORT.md").exists() else done.stderr)
                sys.exit(f"run {number} exited with {done.returncode}")
            if number == 0:
                print(f"warm-up {seconds:.1f} s, not counted")
                continue
            wall.append(seconds)
            for stage in json.loads((run / "run.json").read_text())["stages"]:
                stages.setdefault(stage["name"], []).append(stage["duration_s"])
                overhead.setdefault(stage["name"], []).append(stage["duration_s"] - _cells_s(run, stage["name"]))
            print(f"run {number}: {seconds:.1f} s")
    print(f"\nwhole run, median of {rounds}: {statistics.median(wall):.1f} s (from {min(wall):.1f} to {max(wall):.1f})")
    print(f"{'stage':<16}{'median s':>10}{'of it notebook':>16}")
    for name, seconds_of in stages.items():
        print(f"{name:<16}{statistics.median(seconds_of):>10.2f}{statistics.median(overhead[name]):>16.2f}")


if __name__ == "__main__":
    main()
