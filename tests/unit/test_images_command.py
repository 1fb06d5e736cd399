"""`k8s-e2e images`: what it asks of builder and cluster, and in which order; both are stood in for."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from k8s_e2e.base.errors import EnvironmentFailure, UsageError
from k8s_e2e.cli import cli
from k8s_e2e.cluster import images, providers
from k8s_e2e.cluster.oci import BuiltImage
from k8s_e2e.cluster.provider import Cluster
from k8s_e2e.model.run import ImageRecord
from k8s_e2e.platform import manifests

ROOT = Path(__file__).resolve().parents[2]


def built(reference):
    """An image as a build returns it."""
    return BuiltImage(reference=reference, digest="sha256:12", bytes=1_500_000, archive=Path("x.tar"), source="cached")


class Stub:
    """Stands in for builder and provider, and notes what was done."""

    name = "stub"

    def __init__(self, *, loads=True, pulls=False):
        self.loads, self.pulls = loads, pulls
        self.done = []

    def attach(self, name):
        self.done.append(f"attach {name}")
        if name == "nosuch":
            raise EnvironmentFailure("there is no cluster nosuch")
        return Cluster(name=name, provider="stub", kubeconfig=Path("k"), kubectl=Path("kubectl"))

    def build(self, profile, settings, *, logs, progress):
        self.done.append("build")
        return [built(tag) for image in profile.images for tag in image.tags]

    def third(self, names, settings, progress):
        self.done.append("third party")
        return {"jaeger": built("localhost/jaeger:2")}

    def load(self, provider, cluster, wanted, progress):
        self.done.append(f"load {len(wanted)} into {cluster}")
        return [
            ImageRecord(reference=one.reference, digest=one.digest, bytes=2_000_000, source="built") for one in wanted
        ]


@pytest.fixture
def stub(monkeypatch):
    """A provider that loads and does not pull."""
    stub = Stub()
    monkeypatch.setattr(providers, "get_provider", lambda *_: stub)
    monkeypatch.setattr(images, "build_images", stub.build)
    monkeypatch.setattr(images, "third_party_images", stub.third)
    monkeypatch.setattr(images, "load_and_verify", stub.load)
    monkeypatch.setattr(manifests, "render", lambda *_, **__: [])
    return stub


def run(*words):
    """Run the command on the shipped profile."""
    return CliRunner().invoke(cli, ["images", "--profile", str(ROOT / "k8s-e2e.toml"), *words], catch_exceptions=False)


def test_without_a_cluster_it_only_builds(stub):
    """Every image of the profile is built, and told with digest, size and source."""
    done = run()
    assert stub.done == ["build"]
    assert ["turbo-engine/operator:e2e", "sha256:12", "1.5", "cached"] in [
        line.split() for line in done.stdout.splitlines()
    ]
    assert len(done.stdout.splitlines()) == 1 + 8


def test_with_a_cluster_it_loads_all_that_pods_need(stub):
    """Third parties' images are made, too, where nodes do not pull them; what is told is what the nodes have."""
    done = run("--cluster", "dev")
    assert stub.done == ["attach dev", "build", "third party", "load 9 into dev"]
    assert ["localhost/jaeger:2", "sha256:12", "2.0", "built"] in [line.split() for line in done.stdout.splitlines()]


def test_nodes_that_pull_get_the_own_images_alone(stub):
    """Where nodes pull third parties' images, nothing takes their place."""
    stub.pulls = True
    run("--cluster", "dev")
    assert stub.done == ["attach dev", "build", "load 8 into dev"]


def test_a_cluster_that_is_not_there_is_told_before_anything_is_built(stub):
    """An hour of builds is not spent on a typing error."""
    with pytest.raises(EnvironmentFailure, match="nosuch"):
        run("--cluster", "nosuch")
    assert stub.done == ["attach nosuch"]


def test_a_provider_that_cannot_load_is_refused(stub):
    """A cluster whose nodes only pull is a usage error; its images are pushed to a registry instead."""
    stub.loads = False
    with pytest.raises(UsageError, match="provider stub loads no images"):
        run("--cluster", "dev")
    assert stub.done == []
