"""What a run says that may not do what it has to in somebody else's cluster; the API server is one that refuses."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from k8s_e2e import diagnosis
from k8s_e2e.base.errors import EnvironmentFailure, UsageError
from k8s_e2e.base.progress import silent
from k8s_e2e.cli.permissions import permissions
from k8s_e2e.model.profile import Profile
from k8s_e2e.platform.kube import ApiError
from k8s_e2e.platform.permissions import Access, account, grouped
from k8s_e2e.stages import shared_cluster
from tests.unit import run_builder

SECOND = Path(__file__).parents[1] / "second_profile" / "k8s-e2e.toml"
PROFILE = Profile(root="/project", name="shop", overlay="overlay", namespace="shop-e2e")


class Refusing:
    """An API server at which the account may only do ``allowed`` (verb, resource); a Deployment of others is there."""

    def __init__(self, *allowed, user="system:serviceaccount:shop-e2e:poor", shop=True, everything_but=()):
        self.allowed, self.user, self.shop, self.but = set(allowed), user, shop, set(everything_but)

    def request(self, _method, path, body=None):
        if path.endswith("selfsubjectreviews"):
            if not self.user:
                raise ApiError(404, "NotFound", "the server could not find the requested resource")
            return {"status": {"userInfo": {"username": self.user}}}
        asked = body["spec"]["resourceAttributes"]
        what = (asked["verb"], asked["resource"])
        return {"status": {"allowed": what not in self.but if self.but else what in self.allowed}}

    def discover(self):
        return []

    def get(self, _api_version, kind, name, _namespace=""):
        return {"kind": kind, "metadata": {"name": name}} if kind == "Namespace" else None

    def list(self, _api_version, kind, _namespace):
        there = [{"kind": kind, "metadata": {"name": "shop"}}] if kind == "Deployment" and self.shop else []
        return {"items": there}


def refused(kube):
    """Return the error with which the preparation ends."""
    with pytest.raises(EnvironmentFailure) as caught:
        shared_cluster.prepare(kube, PROFILE, [], "r1", [], silent)
    return caught.value


def test_a_resource_has_one_line():
    """Verbs of one resource stand together, whatever their order; a namespace is not said to be in itself."""
    asked = [
        Access("delete", "apps", "deployments", "shop-e2e"),
        Access("list", "", "namespaces", "", "shop-e2e"),
        Access("create", "apps", "deployments", "shop-e2e"),
        Access("list", "", "nodes"),
    ]
    assert grouped(asked) == [
        "deployments.apps in shop-e2e: create delete",
        "namespaces/shop-e2e: list",
        "nodes in the whole cluster: list",
    ]


def test_the_account_is_named_where_the_server_says_it():
    """Servers before 1.28 do not know the question: then nobody is named, and nothing fails."""
    assert account(Refusing()) == "system:serviceaccount:shop-e2e:poor"
    assert account(Refusing(user="")) == ""


def test_missing_permissions_and_a_namespace_in_use_are_told_at_once():
    """One message has the account, each resource on its line, and the Deployment that is in the way."""
    error = refused(
        Refusing(everything_but=[("create", "configmaps"), ("delete", "configmaps"), ("get", "serviceaccounts")])
    )
    first, line, last, besides = error.message.splitlines()
    assert first == "3 permissions are missing for system:serviceaccount:shop-e2e:poor, and nothing was applied:"
    assert (line, last) == ("configmaps in shop-e2e: create delete;", "serviceaccounts in shop-e2e: get.")
    assert besides.startswith("Besides, namespace shop-e2e is not ours and not empty: Deployment/shop; give the run")
    assert error.hint == "`k8s-e2e permissions --account shop-e2e/poor` prints the Role that grants them"


def test_an_account_without_any_right_is_told_so():
    """That says more than the list, and comes before it; the account that Roles are printed for needs no option."""
    error = refused(Refusing(user="system:serviceaccount:shop-e2e:k8s-e2e", shop=False))
    who = "system:serviceaccount:shop-e2e:k8s-e2e has no rights in namespace shop-e2e: "
    assert error.message.startswith(who)
    assert "Besides" not in error.message
    assert error.hint.startswith("`k8s-e2e permissions` prints")


def test_blind_spots_are_one_short_line():
    """They name resources without verbs, and the option that prints what it takes."""
    said = []
    kube = Refusing(everything_but=[("list", "secrets"), ("watch", "secrets"), ("list", "nodes")])
    with pytest.raises(EnvironmentFailure, match="not ours and not empty"):
        shared_cluster.prepare(kube, PROFILE, [], "r1", [], said.append)
    (line,) = [text for text in said if "--optional" in text]
    assert line.startswith("the report will not see nodes in the whole cluster, secrets in shop-e2e; `k8s-e2e")


@pytest.mark.parametrize("account_named", ["a/b/c", "/kit", "ns/", "", "a//c"])
def test_an_account_that_is_none_is_refused(account_named):
    """No Role is printed for it: one line says how accounts are named, exit code 2."""
    ran = CliRunner().invoke(permissions, ["--profile", str(SECOND), "--account", account_named])
    assert isinstance(ran.exception, UsageError)
    assert str(ran.exception) == f"--account {account_named}: not NAMESPACE/NAME or NAME"
    assert ran.exception.exit_code == 2
    assert ran.output == ""


def test_the_report_says_how_the_role_is_printed(tmp_path):
    """The next command is that of the hint, with the scenarios of the run; the cause names what is missing."""
    builder = run_builder.RunBuilder(tmp_path)
    builder.record.parameters = {"scenarios": ["petstore"]}
    hint = "`k8s-e2e permissions --account shop-e2e/poor` prints the Role that grants them"
    error = "1 permission is missing for x, and nothing was applied:\ndeployments.apps in shop-e2e: delete"
    builder.stage("deploy", 0, 2, "failed", error, exit_code=3, hint=hint)
    finding = diagnosis.diagnose(builder.write()).findings[0]
    assert finding.next_command == "./e2e permissions --account shop-e2e/poor --scenarios petstore"
    assert "deployments.apps in shop-e2e: delete" in finding.title
    assert (
        finding.detail == "1 permission is missing for x, and nothing was applied: deployments.apps in shop-e2e: delete"
    )
    assert finding.fix == hint
