"""A stand-in for the program docker: answers as an engine with kind's nodes would, and writes down what it was asked.

The file is copied as ``docker`` into a directory on PATH. Beside it lies ``engine.json``::

    {"nodes": {"demo-control-plane": ["demo", "control-plane"]},       cluster and role by container
     "images": ["kindest/node:v1.36.1"], "refuses": {"<words it begins with>": "<what is printed>"},
     "crictl": {"demo-control-plane": "<what crictl prints>"}, "admin": "<the node's admin.conf>"}
"""

# ruff: noqa: T201, C901, PLR0912 - a program that prints, one case for each command

import io
import json
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

HERE = Path(sys.argv[0]).resolve().parent
WORDS = sys.argv[1:]
CONTAINERD = 'version = 3\n[plugins]\n[plugins."io.containerd.cri.v1.images"]\nsnapshotter = "overlayfs"\n'
INFO = {"CgroupDriver": "systemd", "CgroupVersion": "2", "MemoryLimit": True, "PidsLimit": True, "CPUShares": True}
LOGS = {
    "pods/kube-system_etcd-NODE_u1/etcd/0.log": "etcd began",
    "pods/kube-system_etcd-NODE_u1/etcd/10.log": "etcd again",
    "pods/kube-system_kube-apiserver-NODE_u2/kube-apiserver/0.log": "apiserver",
    "pods/kube-system_coredns-x1_u3/coredns/0.log": "coredns one",
    "pods/kube-system_coredns-x2_u4/coredns/0.log": "coredns two",
    "pods/default_mine_u5/main/0.log": "not a component",
}


def main() -> None:
    """Answer one command."""
    engine = json.loads((HERE / "engine.json").read_text())
    with (HERE / "calls.jsonl").open("a") as stream:
        stream.write(json.dumps(WORDS) + "\n")
    for begin, said in engine.get("refuses", {}).items():
        if " ".join(WORDS).startswith(begin):
            if said == "hang":
                (HERE / "hanging").touch()
                time.sleep(60)
            sys.exit(said)
    nodes = engine["nodes"]
    match WORDS:
        case ["-v"]:
            print("Docker version 28.2.2, build e6534b4")
        case ["version", *_]:
            print("28.2.2")
        case ["info", "--format", "{{json .}}"]:
            print(json.dumps(INFO))
        case ["ps", *_, "--filter", label, "--format", shown]:
            wanted = label.removeprefix("label=io.x-k8s.kind.cluster").removeprefix("=")
            for node, (cluster, _) in nodes.items():
                if wanted in ("", cluster):
                    print(cluster if "Label" in shown else node)
        case ["inspect", "--type=image", image] | ["image", "inspect", *_, image]:
            sys.exit(0 if image in engine["images"] else f"Error: No such image: {image}")
        case ["pull", *_, image]:
            change(engine, images=[*engine["images"], image])
        case ["inspect", "--format", shown, node] if "role" in shown:
            print(nodes[node][1])
        case ["inspect", "--format", shown, _] if "NetworkSettings.Ports" in shown:
            print("127.0.0.1\t1")
        case ["inspect", "-f", shown, _] if "IPAddress" in shown:
            print("172.18.0.2,")
        case ["network", "ls", *_]:
            print("0123456789ab")
        case ["network", "inspect", *_]:
            print("1500")
        case ["run", "--name", name, *rest]:
            labels = dict(word.split("=", 1) for word in rest if word.startswith("io.x-k8s.kind."))
            change(engine, nodes={**nodes, name: [labels["io.x-k8s.kind.cluster"], labels["io.x-k8s.kind.role"]]})
        case ["logs", *_, node]:
            print(f"{node}: Reached target Multi-User System.")
        case ["rm", *words]:
            change(engine, nodes={node: labels for node, labels in nodes.items() if node not in words})
        case ["exec", *words]:
            while words[0].startswith("-"):
                words = words[1:]
            run(engine, words[0], words[1:])


def run(engine: dict[str, Any], node: str, command: list[str]) -> None:
    """Answer a command in a node."""
    match command:
        case ["cat", "/kind/version"]:
            print("v1.36.1")
        case ["cat", "/etc/kubernetes/admin.conf"]:
            print(engine["admin"])
        case ["containerd", "config", "dump"]:
            print(CONTAINERD)
        case ["ctr", *_, "import", "--all-platforms", "--digests", _, "-"]:
            (HERE / f"loaded-{node}").write_bytes(sys.stdin.buffer.read())
        case ["crictl", "images", *_]:
            print(engine["crictl"].get(node, ""))
        case ["kubectl", *_, "get", "nodes", _, _]:
            print("'True'")
        case ["journalctl", *rest]:
            print("journal", *rest)
        case ["sh", "-c", script] if script.startswith("tar "):
            tar(node)


def tar(node: str) -> None:
    """Write the node's /var/log to standard output."""
    with tarfile.open(fileobj=sys.stdout.buffer, mode="w|") as archive:
        for name, text in LOGS.items():
            path = Path(name.replace("NODE", node))
            for parent in reversed(path.parents):
                directory = tarfile.TarInfo(str(parent))
                directory.type, directory.mode = tarfile.DIRTYPE, 0o755
                archive.addfile(directory)
            member = tarfile.TarInfo(str(path))
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))


def change(engine: dict[str, Any], **values: object) -> None:
    """Remember what a command changed."""
    (HERE / "engine.json").write_text(json.dumps({**engine, **values}))


if __name__ == "__main__":
    main()
