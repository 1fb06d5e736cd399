"""What the kit's binaries are: their versions, and how each can be downloaded, built or unpacked.

A bundle is what one download, build or unpacking makes together. Its `key` covers everything that decides its
content, so a changed version, module or flag never meets an old cache entry.
"""

import hashlib
import platform
from pathlib import Path

import msgspec

from k8s_e2e.base.data import data_dir

ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
SYSTEM = platform.system().lower()  # as releases name it: linux, darwin
_RECIPE = "1"  # to be raised when the code that makes bundles changes what is in them

KUBERNETES = "1.36.3"
ETCD = "3.6.8"
COREDNS = "1.14.2"
CONTAINERD = "1.7.27"  # of a download; Debian brings its own
RUNC = "1.2.6"
CNI_PLUGINS = "1.6.2"
OTELCOL = "0.159.0"
JAEGER = "2.13.0"
PAUSE = "3.9"
KIND = "0.32.0"
KIND_NODE_IMAGE = (
    "kindest/node:v1.36.1@sha256:3489c7674813ba5d8b1a9977baea8a6e553784dab7b84759d1014dbd78f7ebd5"  # kind's own default
)

_COMPONENTS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl")
_GITHUB = "https://github.com"
_VERSION_PACKAGE = "k8s.io/component-base/version"


class Release(msgspec.Struct, frozen=True, kw_only=True):
    """An official release file and where its checksum is published.

    ``members`` maps what to take out of the archive (``""``: the file itself, ``"*"``: every file of it) to paths in
    the bundle.
    """

    url: str
    checksum_url: str
    members: dict[str, str]


class GoBuild(msgspec.Struct, frozen=True, kw_only=True):
    """A Go module of ours and how it is built; ``links`` are names for a multi-call binary.

    ``output`` is a file or, where ``package`` stands for several (``tool``), a directory with a slash at the end.
    The module's directory is in ``infra/local``, or ``within`` another directory.
    """

    module: str
    within: Path | None = None
    output: str
    package: str = "."
    tags: str = ""
    ldflags: str = ""
    links: tuple[str, ...] = ()
    usual_minutes: float = 1.0  # on two cores, cold


class Bundle(msgspec.Struct, frozen=True, kw_only=True):
    """Binaries that are made together; ``provides`` maps an asset's name to its path in the bundle.

    ``provider`` is the one whose clusters need it: others neither build it nor miss it.
    """

    name: str
    provider: str = "local"
    provides: dict[str, str]
    versions: dict[str, str]
    releases: tuple[Release, ...] = ()
    build: GoBuild | None = None
    packages: tuple[str, ...] = ()  # Debian packages to unpack privately


def _kubernetes_release(name: str) -> Release:
    url = f"https://dl.k8s.io/release/v{KUBERNETES}/bin/linux/{ARCHITECTURE}/{name}"
    return Release(url=url, checksum_url=f"{url}.sha256", members={"": f"bin/{name}"})


def _kubectl_release() -> Release:
    url = f"https://dl.k8s.io/release/v{KUBERNETES}/bin/{SYSTEM}/{ARCHITECTURE}/kubectl"
    return Release(url=url, checksum_url=f"{url}.sha256", members={"": "bin/kubectl"})


def _kind_release() -> Release:
    url = f"{_GITHUB}/kubernetes-sigs/kind/releases/download/v{KIND}/kind-{SYSTEM}-{ARCHITECTURE}"
    return Release(url=url, checksum_url=f"{url}.sha256sum", members={"": "bin/kind"})


def _etcd_release() -> Release:
    base = f"{_GITHUB}/etcd-io/etcd/releases/download/v{ETCD}"
    folder = f"etcd-v{ETCD}-linux-{ARCHITECTURE}"
    return Release(
        url=f"{base}/{folder}.tar.gz", checksum_url=f"{base}/SHA256SUMS", members={f"{folder}/etcd": "bin/etcd"}
    )


def _containerd_release() -> Release:
    base = f"{_GITHUB}/containerd/containerd/releases/download/v{CONTAINERD}"
    url = f"{base}/containerd-{CONTAINERD}-linux-{ARCHITECTURE}.tar.gz"
    names = ("containerd", "ctr", "containerd-shim-runc-v2")
    return Release(url=url, checksum_url=f"{url}.sha256sum", members={f"bin/{name}": f"bin/{name}" for name in names})


def _runc_release() -> Release:
    base = f"{_GITHUB}/opencontainers/runc/releases/download/v{RUNC}"
    return Release(url=f"{base}/runc.{ARCHITECTURE}", checksum_url=f"{base}/runc.sha256sum", members={"": "bin/runc"})


def _cni_release() -> Release:
    base = f"{_GITHUB}/containernetworking/plugins/releases/download/v{CNI_PLUGINS}"
    url = f"{base}/cni-plugins-linux-{ARCHITECTURE}-v{CNI_PLUGINS}.tgz"
    return Release(url=url, checksum_url=f"{url}.sha256", members={"*": "cni"})


def _coredns_release() -> Release:
    base = f"{_GITHUB}/coredns/coredns/releases/download/v{COREDNS}"
    url = f"{base}/coredns_{COREDNS}_linux_{ARCHITECTURE}.tgz"
    return Release(url=url, checksum_url=f"{url}.sha256", members={"coredns": "bin/coredns"})


def _otelcol_release() -> Release:
    base = f"{_GITHUB}/open-telemetry/opentelemetry-collector-releases/releases/download/v{OTELCOL}"
    return Release(
        url=f"{base}/otelcol_{OTELCOL}_linux_{ARCHITECTURE}.tar.gz",
        checksum_url=f"{base}/opentelemetry-collector-releases_otelcol_{OTELCOL}_checksums.txt",
        members={"otelcol": "bin/otelcol"},
    )


def _jaeger_release() -> Release:
    base = f"{_GITHUB}/jaegertracing/jaeger/releases/download/v{JAEGER}"
    folder = f"jaeger-{JAEGER}-linux-{ARCHITECTURE}"
    return Release(
        url=f"{base}/{folder}.tar.gz",
        checksum_url=f"{base}/jaeger-{JAEGER}.sha256sum.txt",
        members={f"{folder}/jaeger": "bin/jaeger"},
    )


def _stamp() -> str:
    major, minor, _ = KUBERNETES.split(".")
    values = {
        "gitVersion": f"v{KUBERNETES}",
        "gitMajor": major,
        "gitMinor": minor,
        "gitTreeState": "archive",
        "buildDate": "2026-01-01T00:00:00Z",
    }
    return " ".join(f"-X {_VERSION_PACKAGE}.{name}={value}" for name, value in values.items())


BUNDLES: tuple[Bundle, ...] = (
    Bundle(
        name="kubernetes",
        provides={name: f"bin/{name}" for name in (*_COMPONENTS, "etcd")},
        versions={**dict.fromkeys(_COMPONENTS, KUBERNETES), "etcd": ETCD},
        releases=(*map(_kubernetes_release, _COMPONENTS), _etcd_release()),
        build=GoBuild(
            module="kubernetes",
            output="bin/kube",
            tags="selinux,notest,grpcnotrace",
            ldflags=_stamp(),
            links=(*_COMPONENTS, "etcd"),
            usual_minutes=6,
        ),
    ),
    Bundle(
        name="coredns",
        provides={"coredns": "bin/coredns"},
        versions={"coredns": COREDNS},
        releases=(_coredns_release(),),
        build=GoBuild(module="coredns", output="bin/coredns"),
    ),
    Bundle(
        name="pause",
        provides={"pause": "bin/pause"},
        versions={"pause": PAUSE},
        build=GoBuild(module="pause", output="bin/pause", usual_minutes=0.2),
    ),
    Bundle(
        name="otelcol",
        provides={"otelcol": "bin/otelcol"},
        versions={"otelcol": OTELCOL},
        releases=(_otelcol_release(),),
        build=GoBuild(module="otelcol", output="bin/otelcol"),
    ),
    Bundle(
        name="jaeger",
        provides={"jaeger": "bin/jaeger"},
        versions={"jaeger": JAEGER},
        releases=(_jaeger_release(),),
        build=GoBuild(
            module="jaeger",
            output="bin/jaeger",
            package="github.com/jaegertracing/jaeger/cmd/jaeger",
            usual_minutes=4,
        ),
    ),
    Bundle(
        name="runtime",
        provides={
            **{name: f"bin/{name}" for name in ("containerd", "ctr", "containerd-shim-runc-v2", "runc")},
            "cni": "cni",
        },
        versions={
            **dict.fromkeys(("containerd", "ctr", "containerd-shim-runc-v2"), CONTAINERD),
            "runc": RUNC,
            "cni": CNI_PLUGINS,
        },
        releases=(_containerd_release(), _runc_release(), _cni_release()),
        packages=("containerd", "runc", "containernetworking-plugins"),
    ),
    Bundle(
        name="netfilter",
        provides={"netfilter": "bin"},  # nft for kube-proxy, iptables for the CNI plugins
        versions={},
        packages=(
            *("nftables", "iptables", "libnftables1", "libnftnl11", "libmnl0", "libxtables12", "libip4tc2"),
            *("libip6tc2", "libnetfilter-conntrack3", "libnfnetlink0", "libjansson4", "libgmp10", "libedit2"),
            *("libbsd0", "libmd0", "libtinfo6"),
        ),
    ),
    Bundle(
        name="kind",
        provider="kind",
        provides={"kind": "bin/kind"},
        versions={"kind": KIND},
        releases=(_kind_release(),),
        build=GoBuild(module="kind", output="bin/kind", package="sigs.k8s.io/kind", usual_minutes=0.5),
    ),
    Bundle(
        name="kubectl",  # without the rest of Kubernetes; where it cannot be downloaded, that bundle's is used
        provider="kind",
        provides={"kubectl-alone": "bin/kubectl"},
        versions={"kubectl-alone": KUBERNETES},
        releases=(_kubectl_release(),),
    ),
)


def bundle_of(asset: str) -> Bundle:
    """Return the bundle that brings ``asset``.

    Raises:
        KeyError: no bundle does.
    """
    for bundle in BUNDLES:
        if asset in bundle.provides:
            return bundle
    raise KeyError(asset)


def module_dir(build: GoBuild) -> Path:
    """Return the Go module that ``build`` builds."""
    return (build.within or data_dir() / "infra" / "local") / build.module


def key(bundle: Bundle) -> str:
    """Return the name of the bundle's cache entry, such as ``kubernetes-0123456789ab``."""
    made_by = [_RECIPE, ARCHITECTURE, bundle.versions, bundle.provides, bundle.packages]
    if bundle.build:
        made_by += [bundle.build.package, bundle.build.tags, bundle.build.ldflags, bundle.build.links]
    digest = hashlib.sha256(msgspec.json.encode(made_by, order="sorted"))
    if bundle.build:
        for file in sorted(module_dir(bundle.build).iterdir()):
            digest.update(file.name.encode() + b"\0" + file.read_bytes())
    if bundle.packages:  # unpacked programs fit the distribution they come from
        release = platform.freedesktop_os_release()
        digest.update(f"{release.get('ID')} {release.get('VERSION_ID')}".encode())
    return f"{bundle.name}-{digest.hexdigest()[:12]}"
