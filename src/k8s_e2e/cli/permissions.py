"""The command that says what a run may have to do in somebody else's cluster, as the roles that allow it."""

import click
import yaml

from k8s_e2e.base.errors import UsageError
from k8s_e2e.cli.shared import harmless, profile_option, profile_path
from k8s_e2e.model.profile import load_profile
from k8s_e2e.model.settings import load_settings


@click.command()
@profile_option
@click.option("--scenarios", multiple=True, metavar="NAME|GLOB|PATH", help="Which scenarios (repeatable).")
@click.option(
    "--account",
    default="k8s-e2e",
    show_default=True,
    metavar="[NAMESPACE/]NAME",
    help="The ServiceAccount that runs the kit; without a namespace it is in the run's.",
)
@click.option("--cluster-role", is_flag=True, help="For a kit that makes namespace and CRD itself, in any cluster.")
@click.option("--optional", is_flag=True, help="Also what only keeps the report from blind spots: Secrets, nodes, ...")
def permissions(
    profile: str | None, scenarios: tuple[str, ...], account: str, cluster_role: bool, optional: bool
) -> None:
    """Print the least Role that a run on an existing cluster needs, with its RoleBinding, as YAML.

    Namespace and CRD must be there then. With --cluster-role the kit makes and removes both: as no Role can be made in
    a namespace that is not there yet, that is a ClusterRole with all rights of the Role, bound in the whole cluster.
    What no Role can grant (nodes, or an overlay's ClusterRoles) is a ClusterRole apart. No cluster is asked.
    """
    from k8s_e2e.cluster import existing  # noqa: PLC0415 - start-up time of the other commands
    from k8s_e2e.platform import manifests, rbac  # noqa: PLC0415
    from k8s_e2e.platform.permissions import known_kinds, needed  # noqa: PLC0415
    from k8s_e2e.scenarios import loader  # noqa: PLC0415
    from k8s_e2e.scenarios.accesses import needs  # noqa: PLC0415

    wanted = load_profile(profile_path(profile))
    space, slash, name = account.rpartition("/")
    if not name or (slash and not space) or "/" in space:
        raise UsageError(f"--account {account}: not NAMESPACE/NAME or NAME")
    objects = manifests.render(wanted, existing.kubectl(load_settings()), images={})
    kinds = known_kinds(objects, wanted)
    if not cluster_role:
        objects = [obj for obj in objects if obj["kind"] != "CustomResourceDefinition"]
    steps = needs(loader.load(list(scenarios or wanted.scenarios), wanted), wanted.namespace, kinds, run={})
    every = needed(objects, wanted, kinds=kinds, makes_namespace=cluster_role, further=steps.accesses)
    asked = [access for access in every if access.required or optional]
    subject = (space or wanted.namespace, name)
    wide = f"k8s-e2e-{wanted.namespace}"  # cluster-wide names must not meet another project's
    if cluster_role:
        made = rbac.cluster_role(asked, wide, subject)
    else:
        made = rbac.role(asked, "k8s-e2e", wanted.namespace, subject)
        if apart := [access for access in asked if access.namespace != wanted.namespace]:
            made += rbac.cluster_role(apart, wide, subject)
    click.echo(yaml.safe_dump_all(made, sort_keys=False, explicit_start=True), nl=False)
    for step in steps.unchecked:
        click.echo(f"not included: what step {harmless(step)} needs, which only a run knows", err=True)


COMMANDS = (permissions,)
