"""What `kind export logs` leaves, by component.

kind 0.32 (`pkg/cluster/provider.go`, `collectNodeLogs`) makes a directory for each node: ``kubelet.log``,
``containerd.log`` and ``journal.log`` from the journal, ``serial.log`` from the container, and the node's whole
``/var/log``, so ``pods/<namespace>_<pod>_<uid>/<container>/<run>.log`` with the components that are pods.
"""

from collections.abc import Iterator
from pathlib import Path

_OF_THE_NODE = ("kubelet", "containerd", "journal", "serial")
_NAMESPACES = ("kube-system", "local-path-storage")  # kind's own; all else is evidence that has its own files
_POD_PARTS = 3


def components(exported: Path) -> dict[str, Path]:
    """Return component -> log file.

    With several nodes the node's name follows the component's. A container that ran more than once has its earlier runs
    as ``<component>.run<number>``; where two pods of a node have the same container, the pod's name is the component's.
    """
    nodes = sorted(path for path in exported.iterdir() if path.is_dir()) if exported.is_dir() else []
    found: dict[str, Path] = {}
    for node in nodes:
        suffix = f"-{node.name}" if len(nodes) > 1 else ""
        for component in _OF_THE_NODE:
            if (file := node / f"{component}.log").is_file():
                found[f"{component}{suffix}"] = file
        for component, run, file in _pods(node / "pods"):
            found[f"{component}{suffix}{run}"] = file
    return found


def _pods(directory: Path) -> Iterator[tuple[str, str, Path]]:
    containers = [path for path in sorted(directory.glob("*/*")) if path.is_dir() and _namespace(path) in _NAMESPACES]
    names = [path.name for path in containers]
    for container in containers:
        twice = names.count(container.name) > 1
        component = f"{container.name}-{container.parent.name.split('_')[1]}" if twice else container.name
        runs = sorted((file for file in container.glob("*.log") if file.stem.isdecimal()), key=lambda f: int(f.stem))
        for file in runs:
            yield component, "" if file == runs[-1] else f".run{file.stem}", file


def _namespace(container: Path) -> str:
    parts = container.parent.name.split("_")
    return parts[0] if len(parts) == _POD_PARTS else ""
