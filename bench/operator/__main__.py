"""How fast the operator is: a process without a CPU limit, against a real etcd and kube-apiserver and nothing else.

    python bench/operator [--rounds 5] [--sizes 1,10,100,300,1000]

Beside each figure of the operator, in the same round and turn by turn, stands a bare loop of 16 threads that sends the
same server-side applies with the same client: what this machine's API server can take. "Done" is the last write
acknowledged. Components have no replicas, and kube-controller-manager is stopped (SIGSTOP): what the kubelet and the
controllers do is not the operator's. A first round that is not counted warms the API server.
"""

import argparse
import tempfile
from pathlib import Path

from k8s_e2e.base.progress import silent
from k8s_e2e.cluster.local.provider import LocalProvider
from k8s_e2e.model.settings import Settings

from bench_rounds import ApiServer, Bench
from bench_tables import Figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sizes", default="1,10,100,300,1000", help="numbers of components")
    options = parser.parse_args()
    sizes = [int(size) for size in options.sizes.split(",")]
    figures = Figures()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        provider = LocalProvider(Settings(state_dir=folder / "state"))
        try:
            cluster = provider.up("bench-operator", control_plane_only=True, progress=silent)
            server = ApiServer(cluster.kubeconfig)
            server.without_controllers()
            for number in range(options.rounds + 1):
                print(f"round {number}" if number else "warm-up", flush=True)
                bench = Bench(cluster.kubeconfig, server, folder, number)
                seen = figures if number else Figures()
                for size in sizes:
                    bench.create(size, seen)
                bench.touch(100, 10, seen)
                bench.restart(100, seen)
                bench.memory_and_status(1000, seen)
                bench.cold_start(seen)
        finally:
            provider.down("bench-operator", progress=silent)
    figures.print()


if __name__ == "__main__":
    main()
