"""An open door to the platform of one run: cluster, API server, port-forwards, HTTP."""

import contextlib
import hashlib
from collections.abc import Iterator
from typing import NamedTuple

from k8s_e2e.base.errors import UsageError
from k8s_e2e.base.files import Lines
from k8s_e2e.cluster.provider import Cluster
from k8s_e2e.cluster.providers import get_provider
from k8s_e2e.model import io
from k8s_e2e.model.layout import RunDir
from k8s_e2e.model.profile import Profile
from k8s_e2e.model.run import ClusterIdentity, RunRecord
from k8s_e2e.model.settings import Settings
from k8s_e2e.platform.http import Requester
from k8s_e2e.platform.kube import Kube
from k8s_e2e.platform.portforward import PortForwards


class Session(NamedTuple):
    """What a stage works with once the cluster answers."""

    cluster: Cluster
    kube: Kube
    forwards: PortForwards
    requester: Requester


def attach(run: RunDir, settings: Settings) -> Cluster:
    """Return the cluster that `run.json` names.

    Raises:
        UsageError: the run has no cluster yet, or its name means another cluster by now.
        EnvironmentFailure: it does not answer.
    """
    record = io.load(run.run_json, RunRecord)
    if not record.cluster:
        message = f"the run in {run.root} has no cluster"
        raise UsageError(message, hint=f"run `k8s-e2e stage deploy --run-dir {run.root}` first")
    cluster = get_provider(record.provider, settings).attach(record.cluster)
    now = identity(cluster)
    if record.identity and now and not record.identity.same_as(now):
        message = f"{record.cluster} is not the cluster that the run in {run.root} is on: its context means another now"
        raise UsageError(message, hint="use the kubeconfig that the run was begun with")
    return cluster


def identity(cluster: Cluster) -> ClusterIdentity | None:
    """Return what tells ``cluster`` from others of its name; None where names are enough."""
    if not cluster.server:
        return None
    digest = hashlib.sha256(cluster.server.encode()).hexdigest()
    return ClusterIdentity(server=digest[:16], uid=cluster.uid)


@contextlib.contextmanager
def opened(run: RunDir, cluster: Cluster, profile: Profile, settings: Settings) -> Iterator[Session]:
    """Connect to the API server of ``cluster`` and close everything again at the end."""
    with contextlib.ExitStack() as stack:
        kube = Kube.connect(cluster.kubeconfig, cluster.context)
        stack.callback(kube.close)
        forwards = stack.enter_context(PortForwards(cluster, profile.namespace))
        log = Lines(run.requests)
        stack.callback(log.close)
        requester = Requester(forwards, profile, log, settings.request_timeout_s)
        stack.callback(requester.close)
        yield Session(cluster, kube, forwards, requester)
