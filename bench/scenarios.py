"""Seconds that the scenario engine takes for the life of one Deployment, beside bare kubectl: medians over rounds.

    python bench/scenarios.py --rounds 5

Apply, assert that it is available, update, assert that the update is, delete, assert that it is absent. kubectl does
the same with `apply --server-side`, `rollout status`, `delete --wait=false` and `wait --for=delete`. Both take turns on
one cluster. A first round that is not counted pulls the code into the caches.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

from k8s_e2e.base import files, process
from k8s_e2e.base.progress import silent
from k8s_e2e.cluster.local.provider import LocalProvider
from k8s_e2e.cluster.provider import Cluster
from k8s_e2e.model.layout import RunDir
from k8s_e2e.model.profile import Profile
from k8s_e2e.model.settings import Settings
from k8s_e2e.platform.http import Requester
from k8s_e2e.platform.kube import Kube
from k8s_e2e.platform.portforward import PortForwards
from k8s_e2e.scenarios import engine, loader

NAMESPACE = "bench"
TARGET_S = 2.4


def deployment(version: str) -> dict[str, object]:
    labels = {"app": "yard"}
    container = {"name": "main", "image": "registry.k8s.io/pause:3.9", "env": [{"name": "VERSION", "value": version}]}
    pod = {"terminationGracePeriodSeconds": 0, "containers": [container]}
    template = {"metadata": {"labels": labels}, "spec": pod}
    spec = {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "yard"}, "spec": spec}


def scenario() -> str:
    reference = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "yard"}}
    available = {**reference, "status": {"availableReplicas": 1}}
    steps = [
        {"apply": deployment("1")},
        {"assert": available},
        {"apply": deployment("2")},
        {"assert": {**available, "spec": deployment("2")["spec"]}},
        {"delete": reference},
        {"assert": reference, "absent": True},
    ]
    return json.dumps({"name": "yard", "steps": steps})  # JSON is YAML


def by_engine(cluster: Cluster, folder: Path) -> tuple[float, list[float]]:
    path = folder / "yard.yaml"
    path.write_text(scenario())
    profile = Profile(root=folder, name="bench", overlay="", namespace=NAMESPACE)
    run = RunDir(folder / "run")
    with Kube.connect(cluster.kubeconfig, cluster.context) as kube, PortForwards(cluster, NAMESPACE) as forwards:
        kube.discover()
        context = engine.Context(
            kube=kube,
            requester=Requester(forwards, profile, None),
            forwards=forwards,
            kubectl=cluster.kubectl,
            cluster=cluster,
            namespace=NAMESPACE,
            profile=profile,
            run=run,
            run_id="bench",
            settings=Settings(),
        )
        began = time.monotonic()
        results = engine.run(loader.load([str(path)], profile), context, silent)
        seconds = time.monotonic() - began
    if results.failed:
        raise SystemExit(str(results.first_failure()))
    return seconds, [step.duration_s for step in results.scenarios[0].steps]


def by_kubectl(cluster: Cluster, folder: Path) -> float:
    argv: list[str | Path] = [cluster.kubectl, f"--kubeconfig={cluster.kubeconfig}", f"--namespace={NAMESPACE}"]
    for version in ("1", "2"):
        files.write_json(folder / f"{version}.json", deployment(version))
    began = time.monotonic()
    for version in ("1", "2"):
        process.run([*argv, "apply", "--server-side", "-f", folder / f"{version}.json"], timeout_s=30)
        process.run([*argv, "rollout", "status", "deployment/yard", "--timeout=60s"], timeout_s=90)
    process.run([*argv, "delete", "deployment/yard", "--wait=false"], timeout_s=30)
    process.run([*argv, "wait", "--for=delete", "deployment/yard", "--timeout=60s"], timeout_s=90)
    return time.monotonic() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    ours: list[float] = []
    theirs: list[float] = []
    steps: list[list[float]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        provider = LocalProvider(Settings(state_dir=folder / "state"))
        try:
            cluster = provider.up("bench-scenarios", progress=silent)
            kubectl: list[str | Path] = [cluster.kubectl, f"--kubeconfig={cluster.kubeconfig}"]
            process.run([*kubectl, "create", "namespace", NAMESPACE], timeout_s=30)
            process.run([*kubectl, "wait", "--for=create", "serviceaccount/default", "-n", NAMESPACE], timeout_s=30)
            for number in range(rounds + 1):
                seconds, each = by_engine(cluster, folder)
                plain = by_kubectl(cluster, folder)
                print(f"{f'round {number}' if number else 'warm-up'}: engine {seconds:.2f} s, kubectl {plain:.2f} s")
                if number:
                    ours.append(seconds)
                    theirs.append(plain)
                    steps.append(each)
        finally:
            provider.down("bench-scenarios", progress=silent)
    print(f"\nmedian of {rounds}: engine {statistics.median(ours):.2f} s (target {TARGET_S} s), ", end="")
    print(f"bare kubectl {statistics.median(theirs):.2f} s")
    titles = ("apply", "assert", "update", "assert", "delete", "assert absent")
    for title, seconds_of in zip(titles, zip(*steps, strict=True), strict=True):
        print(f"  {title:<14}{statistics.median(seconds_of):6.2f}")


if __name__ == "__main__":
    main()
