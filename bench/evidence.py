"""What recorder and collector cost: 30 pods that log ten lines a second, about 130 objects and the nodes' own.

    python bench/evidence.py --seconds 60 --rounds 5

Prints how long the recorder took to be ready, its CPU share and memory, whether it has every line that the pods wrote,
and the seconds of a collection: the first drains the recorder, the others (median) do not.
"""

import argparse
import json
import re
import statistics
import tempfile
import time
from pathlib import Path

from k8s_e2e.base import files, process
from k8s_e2e.base.progress import silent
from k8s_e2e.cluster import debian, oci
from k8s_e2e.cluster.local.provider import LocalProvider
from k8s_e2e.cluster.provider import Cluster
from k8s_e2e.evidence import collector, log_lines, manifest, recorder
from k8s_e2e.model.layout import RunDir
from k8s_e2e.model.profile import Profile
from k8s_e2e.model.settings import Settings

NAMESPACE = "bench"
PODS = 30
IMAGE = "localhost/busybox:1"
TARGET_CPU, TARGET_MIB, TARGET_COLLECT_S, TARGET_START_S = 0.05, 150.0, 0.8, 2.0
SAY = 'echo "{\\"level\\":\\"info\\",\\"msg\\":\\"GET /v1/packages 200\\",\\"n\\":$i}"'
TALK = f"i=0; while true; do {SAY}; i=$((i+1)); sleep 0.1; done"


def objects() -> list[dict[str, object]]:
    found: list[dict[str, object]] = []
    for number in range(PODS):
        name = f"talker-{number:02}"
        container = {"name": "main", "image": IMAGE, "imagePullPolicy": "Never", "args": ["sh", "-c", TALK]}
        spec = {"automountServiceAccountToken": False, "terminationGracePeriodSeconds": 0, "containers": [container]}
        metadata = {"name": name, "labels": {"app": name}}
        found.append({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
        found.append({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"n": str(number)}})
        ports = {"ports": [{"port": 80}], "selector": {"app": name}}
        found.append({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": ports})
    return found


def talk(provider: LocalProvider, cluster: Cluster, folder: Path) -> None:
    debian.unpack(["busybox-static"], folder / "deb", timeout_s=60, progress=silent)
    binary = next((folder / "deb" / "root").glob("**/bin/busybox"))
    image = oci.single_binary_image(folder / "busybox.tar", IMAGE, [], {"/bin/busybox": binary, "/bin/sh": binary})
    provider.load(cluster.name, image.archive, progress=silent)
    kubectl = [str(cluster.kubectl), "--kubeconfig", str(cluster.kubeconfig), "-n", NAMESPACE]
    process.run([*kubectl, "create", "namespace", NAMESPACE], timeout_s=30)
    process.run([*kubectl, "wait", "--for=create", "serviceaccount/default", "--timeout=20s"], timeout_s=30)
    whole = {"apiVersion": "v1", "kind": "List", "items": objects()}
    process.run([*kubectl, "apply", "--server-side", "-f", "-"], timeout_s=60, stdin=json.dumps(whole).encode())
    process.run([*kubectl, "wait", "--for=condition=Ready", "pod", "--all", "--timeout=120s"], timeout_s=130)


def lost_lines(run: RunDir) -> tuple[int, int]:
    """Count the lines recorded, and the numbers that are missing between the first and the last of each pod."""
    count = lost = 0
    for path in run.pod_logs.glob("*/main.txt"):
        numbers = [int(found[1]) for line in log_lines.read(path) if (found := re.search(r'"n":(\d+)', line.text))]
        count += len(numbers)
        lost += len(set(range(numbers[-1] + 1)) - set(numbers)) if numbers else 0
    return count, lost


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seconds", type=float, default=60.0)
    options.add_argument("--rounds", type=int, default=5)
    asked = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="k8s-e2e-bench-") as scratch:
        folder = Path(scratch)
        settings = Settings(state_dir=folder / "state")
        provider = LocalProvider(settings)
        profile = Profile(root=folder, name="bench", overlay="", namespace=NAMESPACE)
        run = RunDir.claim(folder / "run")
        files.write_json(run.run_json, {})
        try:
            cluster = provider.up("bench-evidence", progress=print)
            began = time.monotonic()
            recorder.start(run, cluster, NAMESPACE, profile, settings)
            start_s = time.monotonic() - began
            talk(provider, cluster, folder)
            time.sleep(asked.seconds)
            rounds = []
            for _ in range(asked.rounds + 1):
                began, cpu = time.monotonic(), time.process_time()
                collected = collector.collect(run, cluster, NAMESPACE, profile, None, settings, silent)
                rounds.append((time.monotonic() - began, time.process_time() - cpu))
            manifest.seal(run, collected.parts)
        finally:
            provider.down("bench-evidence", progress=print)
        ended = json.loads(run.path("logs/recorder.jsonl").read_text().splitlines()[-1])
        count, lost = lost_lines(run)
        failed = [part.name for part in collected.parts if part.status == "failed"]
        rows = next(part.rows for part in collected.parts if part.name == "resources")
        share = ended["cpu_s"] / ended["wall_s"]
        print(
            f"recorder: ready after {start_s:.2f} s (target {TARGET_START_S}), {PODS} pods for {ended['wall_s']:.0f} s:"
        )
        print(f"  CPU {share:.1%} (target {TARGET_CPU:.0%}), {ended['rss_peak_mib']} MiB (target {TARGET_MIB:.0f})")
        print(f"  {count} log lines, {lost} lost (target 0)")
        print(f"collect: {rows} objects, first (drains the recorder) {rounds[0][0]:.2f} s, failed parts: {failed}")
        later = [took for took, _ in rounds[1:]]
        used = statistics.median(cpu for _, cpu in rounds[1:])
        print(f"  median {statistics.median(later):.2f} s (target {TARGET_COLLECT_S}), {used:.2f} s of it our CPU")


if __name__ == "__main__":
    main()
