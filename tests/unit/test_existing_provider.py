"""What an existing cluster needs, worked out without one: context, images, permissions, and what stays."""

import shutil
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k8s_e2e import pipeline
from k8s_e2e.base import files, process
from k8s_e2e.base.errors import EnvironmentFailure, UsageError
from k8s_e2e.base.progress import silent
from k8s_e2e.cluster import kubeconfig
from k8s_e2e.cluster.existing import ExistingProvider
from k8s_e2e.cluster.kubeconfig import Context
from k8s_e2e.cluster.provider import Cluster
from k8s_e2e.model.profile import CustomResource, Profile
from k8s_e2e.model.run import ClusterIdentity, RunRecord
from k8s_e2e.model.settings import Settings
from k8s_e2e.platform import image_prefix, ownership, rbac, removal
from k8s_e2e.platform.kube import ApiError, Resource
from k8s_e2e.platform.permissions import Access, Kind, kind_of, needed
from k8s_e2e.platform.running_images import running_images
from k8s_e2e.scenarios import program_steps
from k8s_e2e.stages import session, shared_cluster

VIEW = {
    "current-context": "shop-live",
    "contexts": [
        {"name": "shop-live", "context": {"cluster": "shop"}},
        {"name": "dev", "context": {"cluster": "dev"}},
        {"name": "broken", "context": {"cluster": "gone"}},
    ],
    "clusters": [
        {"name": "shop", "cluster": {"server": "https://10.0.0.1"}},
        {"name": "dev", "cluster": {"server": "https://10.0.0.2"}},
    ],
}
PROFILE = Profile(
    root=Path("/project"),
    name="shop",
    overlay="overlay",
    namespace="shop-e2e",
    custom_resources=(CustomResource(group="shop.io", version="v1", kind="Basket", plural="baskets"),),
)


@pytest.mark.parametrize(
    ("context", "told"),
    [
        (Context("prod-eu", "c", "https://10.0.0.1"), "'prod' in its name 'prod-eu'"),
        (Context("shop", "arn:aws:eks:eu:1:cluster/PRODUCTION", "https://x"), "'PRODUCTION' in its cluster"),
        (Context("shop", "c", "https://api.live.example.com:6443"), "'live' in its server 'api.live.example.com'"),
        (Context("eu_prd1", "c", "https://x"), "'prd' in its name"),
        (Context("product-delivery", "alive", "https://liverpool.reproducer.example"), ""),
        (Context("dev", "c", "https://10.0.0.1/k8s/clusters/prod"), ""),
    ],
)
def test_what_looks_like_production(context, told):
    """prod, production, prd and live count as words of their own, in context, cluster and the server's host."""
    found = kubeconfig.production(context)
    assert found.startswith(told)
    assert bool(found) == bool(told)


def test_a_context_that_looks_like_production_must_be_named():
    """As the current one it is refused with the words that say it is meant; named, it is taken."""
    with pytest.raises(UsageError, match="looks like production: 'live' in its name 'shop-live'") as raised:
        kubeconfig.chosen(VIEW, "")
    assert "name it (shop-live) if it is meant" in raised.value.hint
    assert kubeconfig.chosen(VIEW, "shop-live").server == "https://10.0.0.1"
    assert kubeconfig.chosen({**VIEW, "current-context": "dev"}, "") == Context("dev", "dev", "https://10.0.0.2")


@pytest.mark.parametrize(
    ("view", "name", "told"),
    [
        (VIEW, "nosuch", "no context 'nosuch'"),
        (VIEW, "broken", "no cluster with a server"),
        ({**VIEW, "current-context": ""}, "", "no current context"),
        ({"contexts": None, "clusters": None}, "", "no current context"),
    ],
)
def test_a_context_that_cannot_be_used_is_one_clear_error(view, name, told):
    """Absent, without a server, or none at all: exit code 2."""
    with pytest.raises(UsageError, match=told):
        kubeconfig.chosen(view, name)


def test_the_kubeconfig_files_are_those_of_kubectl(tmp_path, monkeypatch):
    """KUBECONFIG's files in its order, absent and empty ones left out; without it the one of the home directory."""
    one, two, home = tmp_path / "one", tmp_path / "two", tmp_path / ".kube" / "config"
    one.write_text("")
    two.write_text("")
    assert kubeconfig.files({"KUBECONFIG": f"{two}:{tmp_path / 'absent'}::{one}:{two}"}) == [two, one]
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(UsageError, match=str(home)):
        kubeconfig.files({})
    home.parent.mkdir()
    home.write_text("")
    assert kubeconfig.files({"KUBECONFIG": ""}) == [home]


def test_another_cluster_under_the_same_name_is_refused(tmp_path, monkeypatch):
    """The uid decides where both know it, else the server; a run is not gone on with on another cluster."""
    here = ClusterIdentity(server="a", uid="1")
    assert here.same_as(ClusterIdentity(server="b", uid="1"))  # a tunnel to it
    assert not here.same_as(ClusterIdentity(server="a", uid="2"))  # made anew
    assert here.same_as(ClusterIdentity(server="a"))
    assert not here.same_as(ClusterIdentity(server="b"))
    found = SimpleNamespace(server="https://10.0.0.2", uid="2")
    monkeypatch.setattr(session, "get_provider", lambda *_: SimpleNamespace(attach=lambda _: found))
    run = session.RunDir(tmp_path)
    files.write_json(run.run_json, RunRecord(provider="existing", cluster="dev", identity=here))
    with pytest.raises(UsageError, match=r"dev is not the cluster that the run .* is on"):
        session.attach(run, Settings())


def test_nobody_learns_the_server_from_a_run():
    """run.json, which is published, holds a hash of the API server's URL."""
    identity = session.identity(SimpleNamespace(server="https://secret.example", uid=""))  # type: ignore[arg-type]
    assert identity is not None
    assert "secret" not in identity.server
    assert session.identity(SimpleNamespace(server="", uid="")) is None  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given_", "checked"),
    [
        ("", ""),
        ("registry.example/team/", "registry.example/team/"),
        ("registry.example/team", "registry.example/team/"),
        ("127.0.0.1:5000/team/pr-7/", "127.0.0.1:5000/team/pr-7/"),
        ("ghcr.io/acme/shop__x/a.b/", "ghcr.io/acme/shop__x/a.b/"),
    ],
)
def test_a_prefix_ends_where_a_tag_can_begin(given_, checked):
    """A registry with or without port and path; the slash is added."""
    assert image_prefix.checked(given_) == checked


@pytest.mark.parametrize(
    "prefix", ["https://registry.example/", "registry.example/Team/", "a b/", "r/x:tag/", "/", "r//x"]
)
def test_a_prefix_that_no_image_can_have_is_refused(prefix):
    """A scheme, capitals, blanks, a tag, an empty part: exit code 2 before anything starts."""
    with pytest.raises(UsageError, match="no image can be called"):
        image_prefix.checked(prefix)


def test_own_images_are_named_by_prefix_and_pulled():
    """Containers, init containers, Jobs' and CronJobs', and variables that are an image; others stay as they are."""
    pod = {
        "initContainers": [{"name": "init", "image": "docker.io/shop/api:e2e", "imagePullPolicy": "Never"}],
        "containers": [
            {
                "name": "api",
                "image": "shop/api:e2e",
                "env": [{"name": "RUN", "value": "shop/job:e2e"}, {"name": "X"}],
            },
            {"name": "side", "image": "jaeger:2", "env": None},
        ],
    }
    objects = [
        {"kind": "Deployment", "metadata": {"name": "a"}, "spec": {"template": {"spec": pod}}},
        {"kind": "CronJob", "metadata": {"name": "b"}, "spec": {"jobTemplate": {"spec": {"template": {"spec": pod}}}}},
        {"kind": "Pod", "metadata": {"name": "c"}, "spec": pod},
        {"kind": "ConfigMap", "metadata": {"name": "d"}},
    ]
    for obj in image_prefix.prefixed(objects, ["shop/api:e2e", "shop/job:e2e"], "r.example/x/")[:3]:
        init, api, side = image_prefix.containers(obj)
        assert (init["image"], init["imagePullPolicy"]) == ("r.example/x/shop/api:e2e", "Always")
        assert api["image"] == "r.example/x/shop/api:e2e"
        assert api["env"] == [{"name": "RUN", "value": "r.example/x/shop/job:e2e"}, {"name": "X"}]
        assert side == {"name": "side", "image": "jaeger:2", "env": None}
    assert objects[0]["spec"]["template"]["spec"]["containers"][0]["image"] == "shop/api:e2e"
    assert image_prefix.pull_policy("r.example/x/shop/api@sha256:00") == "IfNotPresent"


def test_a_prefix_is_refused_where_images_are_loaded(tmp_path):
    """Exit code 2, and no run directory."""
    request = pipeline.Request(
        run_dir=tmp_path / "run",
        profile=Path(__file__).resolve().parents[2] / "k8s-e2e.toml",
        provider="local",
        image_prefix="registry.example/team/",
    )
    with pytest.raises(UsageError, match="provider local loads the images"):
        pipeline.run(request, Settings(), silent)
    assert not (tmp_path / "run").exists()


ROLE = {
    "apiVersion": "rbac.authorization.k8s.io/v1",
    "kind": "Role",
    "metadata": {"name": "operator", "namespace": "shop-e2e"},
    "rules": [
        {"apiGroups": ["shop.io"], "resources": ["baskets/status"], "verbs": ["patch"]},
        {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["till"], "verbs": ["get"]},
    ],
}
CRD = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "baskets.shop.io"},
    "spec": {
        "group": "shop.io",
        "scope": "Namespaced",
        "names": {"kind": "Basket", "plural": "baskets"},
        "versions": [{"name": "v1"}],
    },
}


def test_what_is_needed_follows_from_the_objects():
    """Each applied kind can be made and removed, what a Role grants is held, and reading nodes is no condition."""
    found = set(needed([ROLE], PROFILE))
    space = "shop-e2e"
    for verb in ("create", "patch", "list", "delete"):
        assert Access(verb, "rbac.authorization.k8s.io", "roles", space) in found
    assert Access("patch", "shop.io", "baskets/status", space) in found
    assert Access("get", "", "secrets", space, "till") in found
    assert Access("delete", "shop.io", "baskets", space) in found
    assert Access("create", "", "pods/portforward", space) in found
    assert Access("list", "", "nodes", required=False) in found
    assert Access("list", "", "secrets", space, required=False) in found
    assert all(access.namespace == space for access in found if access.required)
    assert str(Access("patch", "shop.io", "baskets/status", space)) == "patch baskets/status.shop.io in shop-e2e"


def test_making_namespace_and_crd_needs_more():
    """They are the cluster's; and before a CRD goes, no object of its kind may be left in any namespace."""
    more = set(needed([ROLE, CRD], PROFILE, makes_namespace=True)) - set(needed([ROLE], PROFILE))
    assert {Access("create", "", "namespaces"), Access("delete", "", "namespaces", "shop-e2e", "shop-e2e")} <= more
    assert Access("create", "apiextensions.k8s.io", "customresourcedefinitions") in more
    assert Access("list", "shop.io", "baskets") in more


def test_what_is_needed_once_is_not_optional_twice():
    """Nothing is asked both as a condition and as a nicety; the order is always the same."""
    found = needed([ROLE, CRD], PROFILE, further=[Access("list", "", "configmaps", "shop-e2e")])
    assert len({access._replace(required=True) for access in found}) == len(found)
    assert found == needed([CRD, ROLE], PROFILE, further=[Access("list", "", "configmaps", "shop-e2e")])


@pytest.mark.parametrize(
    ("kind", "plural"),
    [
        ("Deployment", "deployments"),
        ("Ingress", "ingresses"),
        ("NetworkPolicy", "networkpolicies"),
        ("Gateway", "gateways"),
        ("Endpoints", "endpoints"),
        ("Basket", "trugs"),
    ],
)
def test_plurals_are_known_or_guessed(kind, plural):
    """What a CRD says counts; the rest follows the rule that kubectl guesses by."""
    known = {("x.io/v1", "Basket"): Kind("x.io", "trugs", namespaced=True)}
    assert kind_of("x.io/v1", kind, known).plural == plural


accesses = st.builds(
    Access,
    verb=st.sampled_from(["get", "list", "delete"]),
    group=st.sampled_from(["", "apps"]),
    resource=st.sampled_from(["pods", "pods/log", "deployments"]),
    namespace=st.just("shop-e2e"),
    required=st.just(value=True),
    name=st.sampled_from(["", "one", "two"]),
)


@given(st.sets(accesses))
def test_rules_grant_exactly_what_is_asked(asked):
    """Unfolded again, the rules of a Role are the permissions that it was made of."""
    granted = {
        Access(verb, group, resource, "shop-e2e", name)
        for rule in rbac.rules(asked)
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for name in rule.get("resourceNames", [""])
        for verb in rule["verbs"]
    }
    assert granted == asked


def test_marks_are_on_the_object_only():
    """Label and run are added to what the object has; its template, and the object it was made of, stay as they are."""
    obj = {
        "kind": "Deployment",
        "metadata": {"name": "a", "labels": {"x": "y"}},
        "spec": {"template": {"metadata": {}}},
    }
    (marked,) = ownership.marked([obj], "run-1")
    assert marked["metadata"]["labels"] == {"x": "y", "app.kubernetes.io/managed-by": "k8s-e2e"}
    assert marked["spec"] == {"template": {"metadata": {}}}
    assert ownership.run_of(marked) == "run-1"
    assert ownership.run_of(obj) == ""


def test_images_are_recorded_as_pods_report_them():
    """The reference that was asked for, and the digest behind the last @ of what the node has."""
    pod = {
        "spec": {"containers": [{"name": "a", "image": "r/a:e2e"}, {"name": "b", "image": "b:1"}]},
        "status": {
            "containerStatuses": [
                {"name": "a", "image": "r/a:e2e", "imageID": "r/a@sha256:1"},
                {"name": "b", "image": "sha256:2", "imageID": "sha256:2"},
                {"name": "waiting", "image": "c"},
            ]
        },
    }
    found = [(image.reference, image.digest, image.source) for image in running_images([pod, pod])]
    assert found == [("b:1", "sha256:2", "pulled"), ("r/a:e2e", "sha256:1", "pulled")]


@pytest.mark.parametrize(
    ("options", "failed", "kept"),
    [
        ({}, False, False),
        ({"cluster": "dev"}, False, False),
        ({"cluster": "dev"}, True, False),
        ({"keep": True}, False, True),
        ({"keep_on_failure": True}, False, False),
        ({"keep_on_failure": True}, True, True),
    ],
)
def test_naming_an_existing_cluster_keeps_nothing_in_it(options, failed, kept):
    """What the run made goes unless it was asked to stay; the cluster is never in question."""
    request = pipeline.Request(run_dir=Path("run"), profile=Path("k8s-e2e.toml"), provider="existing", **options)
    record = RunRecord(run_id="1", provider="existing", cluster="dev", parameters=request._asdict())
    assert pipeline._kept(record, request, failed=failed) == kept


def test_a_copy_of_the_kubeconfig_goes_with_the_run(tmp_path):
    """`down` of the provider removes the copy that several files were put together in, and nothing else."""
    provider = ExistingProvider(Settings(state_dir=tmp_path))
    copy = provider._copy("dev")
    copy.parent.mkdir(parents=True)
    copy.write_text("")
    provider.down("other", progress=silent)
    assert copy.exists()
    provider.down("dev", progress=silent)
    assert not copy.exists()


def test_a_script_talks_to_the_run_s_cluster_whatever_context_is_current(tmp_path):
    """Kubectl in a script takes the run's context, not the one that the user's file says is current."""
    program = shutil.which("kubectl")
    if program is None:
        pytest.skip("there is no kubectl")
    entry = {"context": {"cluster": "c", "user": ""}}
    contexts = [{"name": name, **entry} for name in ("production", "dev")]
    config = {"apiVersion": "v1", "kind": "Config", "current-context": "production", "contexts": contexts}
    files.write_json(tmp_path / "config", config)
    cluster = Cluster(
        name="dev", provider="existing", kubeconfig=tmp_path / "config", context="dev", kubectl=Path(program)
    )
    environment = {"KUBECONFIG": program_steps.kubeconfig(cluster, tmp_path)}
    done = process.run([program, "config", "current-context"], timeout_s=20, env=environment)
    assert done.stdout.strip() == "dev"


@pytest.mark.parametrize(
    ("obj", "told"),
    [
        (
            {"kind": "RoleBinding", "metadata": {"name": "reader", "namespace": "kube-system"}},
            "RoleBinding/reader in namespace kube-system",
        ),
        ({"kind": "Namespace", "metadata": {"name": "second"}}, "Namespace/second"),
    ],
)
def test_an_overlay_that_reaches_out_of_its_namespace_is_refused(obj, told):
    """Another Namespace, or an object in one: refused by name before the cluster is asked anything."""
    own = [ROLE, CRD, {"kind": "Namespace", "metadata": {"name": "shop-e2e"}}]
    kube = SimpleNamespace()  # any use of it fails
    with pytest.raises(EnvironmentFailure, match=rf"outside of namespace shop-e2e: {told}; "):
        shared_cluster.prepare(kube, PROFILE, [*own, obj], "run-1", (), silent)  # type: ignore[arg-type]
    shared_cluster.refuse_outside("shop-e2e", own)


def test_the_server_knows_better_whether_a_kind_is_in_namespaces(monkeypatch):
    """A kind of the profile that is the cluster's is asked for in the whole cluster."""
    known = {("shop.io/v1", "Basket"): Kind("shop.io", "baskets", namespaced=False)}
    assert Access("delete", "shop.io", "baskets") in needed([], PROFILE, kinds=known)
    asked: list[Access] = []
    monkeypatch.setattr(shared_cluster.permissions, "missing", lambda _, accesses: asked.extend(accesses) or [])
    kube = SimpleNamespace(discover=lambda: [Resource("shop.io", "v1", "Basket", "baskets", namespaced=False)])
    shared_cluster._check(kube, PROFILE, [], "run-1", (), silent, adopts=True)  # type: ignore[arg-type]
    assert Access("delete", "shop.io", "baskets") in asked


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ApiError(503, "Away", "back soon")])
def test_listing_ends_with_its_first_error(monkeypatch, error):
    """After Ctrl-C, or an error, neither lists under way nor those that have not begun are waited for."""
    monkeypatch.setattr(removal, "WORKERS", 2)
    let_go, begun = threading.Event(), []
    work = removal._Removal(None, PROFILE, "run-1", silent)  # type: ignore[arg-type]
    verbs = ("list", "delete")
    work._served = [Resource("", "v1", f"K{n}", f"k{n}", namespaced=True, verbs=verbs) for n in range(40)]

    def listed(_: str, kind: str, *__: str) -> list[ownership.Object]:
        if kind == "K0":
            raise error
        begun.append(kind)
        let_go.wait(5.0)
        return []

    monkeypatch.setattr(work, "_listed", listed)
    began = time.monotonic()
    try:
        with pytest.raises(type(error)):
            work._everything("shop-e2e")
        assert time.monotonic() - began < 2.0
    finally:
        let_go.set()
    assert len(begun) <= removal.WORKERS
