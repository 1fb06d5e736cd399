"""``k8s/logs-<service>.txt``: all container logs of a service's pods in one file, the oldest pod first."""

from pathlib import Path

from k8s_e2e.evidence.caps import append_capped
from k8s_e2e.evidence.pods import Pod

HEAD_BYTES = 4 << 20
TAIL_BYTES = 4 << 20


def write(logs: Path, out: Path, pods: list[Pod]) -> int:
    """Write one file a service into ``out`` from ``logs/<pod>/``; of a long log head and tail. Returns their number.

    Runs before the last come first, each under its own header (see `log_lines`). ``pods`` are in the order wanted.
    """
    service_of = {pod.name: pod.service for pod in pods}
    order = {name: index for index, name in enumerate(service_of)}
    directories = [path for path in logs.iterdir() if path.is_dir()] if logs.is_dir() else []
    by_service: dict[str, list[Path]] = {}
    for directory in sorted(directories, key=lambda path: (order.get(path.name, len(order)), path.name)):
        by_service.setdefault(service_of.get(directory.name, directory.name), []).append(directory)
    for stale in out.glob("logs-*.txt"):
        stale.unlink()
    for service, found in by_service.items():
        target = out / f"logs-{service}.txt"
        for directory in found:
            for path in sorted(directory.glob("*.txt"), key=_previous_first):
                append_capped(path, target, head=HEAD_BYTES, tail=TAIL_BYTES)
    return len(by_service)


def _previous_first(path: Path) -> tuple[str, bool]:
    container = path.name.removesuffix(".txt")
    return container.removesuffix(".previous"), not container.endswith(".previous")
