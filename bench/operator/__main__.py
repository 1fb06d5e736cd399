"""How fast the operator is: a process against a real etcd and kube-apiserver and nothing else.

    python bench/operator [--rounds 5] [--sizes 1,10,100,300,1000]

Beside each `create`, in the same round, stands a bare loop of 16 threads that sends the same server-side applies with
the same client and account: what this machine's API server can take; and once more with watches of the three kinds
open, since an operator hears of each of its writes again, and the API server has to tell it. "Done" is the last write
acknowledged. Each measurement has a control plane of its own, since an API server that has seen thousands of Services
takes several times as long for the next one. Only the cold start has a CPU limit. Components have no replicas, and
kube-controller-manager is stopped (SIGSTOP): what the kubelet and the controllers do is not the operator's.
"""

import argparse
import tempfile
from pathlib import Path

from bench_rounds import Bench
from bench_tables import Figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--sizes",
        default="1,10,100,300,1000",
        help="numbers of components of the creates; the other measurements keep theirs",
    )
    options = parser.parse_args()
    sizes = [int(size) for size in options.sizes.split(",")]
    figures = Figures()
    with tempfile.TemporaryDirectory() as name:
        for number in range(1, options.rounds + 1):
            print(f"round {number}", flush=True)
            bench = Bench(Path(name), figures)
            for size in sizes:
                bench.create(size)
            bench.touch(100, 10)
            bench.restart(100)
            bench.memory_and_status(1000)
            bench.cold_start()
    figures.print()


if __name__ == "__main__":
    main()
