"""Pure parts of rendering: image replacements and the order of application."""

import pytest

from k8s_e2e.base.errors import UsageError
from k8s_e2e.model.profile import Profile
from k8s_e2e.platform import manifests


@pytest.mark.parametrize(
    ("new", "entry"),
    [
        ("localhost/jaeger:2.13", {"newName": "localhost/jaeger", "newTag": "2.13"}),
        ("localhost:5000/jaeger", {"newName": "localhost:5000/jaeger"}),
        ("localhost:5000/jaeger:1", {"newName": "localhost:5000/jaeger", "newTag": "1"}),
        ("jaeger@sha256:ab", {"newName": "jaeger", "digest": "sha256:ab"}),
    ],
)
def test_a_reference_is_taken_apart(new, entry):
    """A tag, a digest and the port of a registry are told apart."""
    assert manifests.replacement("jaegertracing/jaeger", new) == {"name": "jaegertracing/jaeger", **entry}


def test_what_others_refer_to_comes_first():
    """Namespace, CRD, accounts and config before workloads; the rest keeps its order."""
    kinds = ["Deployment", "Service", "APIGraph", "ConfigMap", "RoleBinding", "Namespace", "CustomResourceDefinition"]
    ordered = [obj["kind"] for obj in manifests.in_order([{"kind": kind} for kind in kinds])]
    assert ordered == [
        "Namespace",
        "CustomResourceDefinition",
        "RoleBinding",
        "ConfigMap",
        "Service",
        "Deployment",
        "APIGraph",
    ]


def test_an_overlay_that_is_not_there_is_one_clear_error(tmp_path):
    """The profile's key and the directory are named, and kubectl is not even started."""
    profile = Profile(root=tmp_path, name="x", overlay="nowhere", namespace="x")
    with pytest.raises(UsageError, match=r"overlay: .*nowhere has no kustomization\.yaml"):
        manifests.render(profile, tmp_path / "no-kubectl", images={})
