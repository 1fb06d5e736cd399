"""Pure parts of rendering: image replacements and the order of application."""

import pytest

from k8s_e2e.base.errors import UsageError
from k8s_e2e.cluster import images
from k8s_e2e.model.profile import Profile
from k8s_e2e.model.settings import Settings
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


def _pod(image, **more):
    return {"containers": [{"name": "main", "image": image, **more}]}


def test_images_are_found_in_every_kind_of_pod():
    """Bare pods, templates and the jobs of a CronJob name images."""
    objects = [
        {"kind": "Pod", "spec": _pod("a/pod:1")},
        {"kind": "StatefulSet", "spec": {"template": {"spec": _pod("a/set:1")}}},
        {"kind": "CronJob", "spec": {"jobTemplate": {"spec": {"template": {"spec": _pod("a/cron:1")}}}}},
        {"kind": "ConfigMap", "data": {"image": "a/no-pod:1"}},
    ]
    assert manifests.images_of(objects) == ["a/cron:1", "a/pod:1", "a/set:1"]


def test_an_image_that_only_an_environment_names_is_mentioned():
    """Names are found without tag, digest or the port of a registry being mistaken for one."""
    env = [{"name": "STUB", "value": "registry.k8s.io/pause:3.9"}, {"name": "OTHER", "value": "host:5000/stub"}]
    objects = [{"kind": "Pod", "spec": _pod("jaegertracing/jaeger@sha256:ab", env=env)}]
    named = manifests.mentioned(objects)
    assert {"registry.k8s.io/pause", "jaegertracing/jaeger", "host:5000/stub"} <= named


def test_manifests_that_name_no_third_party_need_no_program(tmp_path):
    """Nothing is fetched or built for images that nobody names."""
    settings = Settings(cache_dir=tmp_path / "cache", offline=True)
    assert images.third_party_images({"acme/operator"}, settings, progress=print) == {}
    assert not (tmp_path / "cache").exists()
