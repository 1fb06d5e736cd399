"""Which Deployments count as rolled out, what is said of the others, and which states end a wait."""

import pytest

from k8s_e2e.platform.pod_state import describe_pod, hopeless
from k8s_e2e.platform.rollout import State, rollout_state, set_state, tell

START = "2026-01-02T03:04:05Z"
NOW_S = 1767323105.0  # a minute after START


def deployment(*, wanted=1, generation=1, observed=1, conditions=(), **status):
    """A Deployment named operator."""
    return {
        "metadata": {"name": "operator", "uid": "d", "generation": generation},
        "spec": {"replicas": wanted, "progressDeadlineSeconds": 60},
        "status": {"observedGeneration": observed, "conditions": list(conditions), **status},
    }


def replica_set(revision, uid="r"):
    """A ReplicaSet of it."""
    annotations = {"deployment.kubernetes.io/revision": str(revision)}
    owner = {"uid": "d"}
    return {"metadata": {"name": uid, "uid": uid, "annotations": annotations, "ownerReferences": [owner]}}


def pod(*containers, name="operator-abc", owner="r", phase="Pending", conditions=(), **status):
    """A pod of that ReplicaSet."""
    return {
        "metadata": {"name": name, "uid": f"uid-{name}", "ownerReferences": [{"uid": owner}]},
        "status": {
            "phase": phase,
            "startTime": START,
            "containerStatuses": list(containers),
            "conditions": list(conditions),
            **status,
        },
    }


def waiting(reason, message="", **more):
    """A container that waits."""
    image = "turbo-engine/operatr:e2e"
    return {
        "name": "operator",
        "image": image,
        "state": {"waiting": {"reason": reason, "message": message}},
        "restartCount": 0,
        **more,
    }


def event(reason, message, *, count=1, kind="Warning", of="operator-abc"):
    """An Event of the pod."""
    about = {"uid": f"uid-{of}"}
    return {
        "involvedObject": about,
        "type": kind,
        "reason": reason,
        "message": message,
        "count": count,
        "lastTimestamp": START,
    }


def state(live, pods=(), events=(), sets=None):
    """The state at NOW_S."""
    return rollout_state(live, sets or [replica_set(1)], pods, events, now_s=NOW_S)


def test_all_replicas_of_the_newest_template_available_is_done():
    """Done needs the observed generation, all replicas updated, available, and no old one left."""
    full = {"replicas": 2, "updatedReplicas": 2, "availableReplicas": 2}
    assert state(deployment(wanted=2, **full)).done
    assert not state(deployment(wanted=2, generation=2, **full)).done
    assert not state(deployment(wanted=2, **{**full, "updatedReplicas": 1})).done
    assert not state(deployment(wanted=2, **{**full, "availableReplicas": 1})).done
    assert not state(deployment(wanted=2, **{**full, "replicas": 3})).done


def test_zero_replicas_are_done_when_none_is_left():
    """A Deployment that wants nothing is done, with an empty status."""
    assert state(deployment(wanted=0)).done


def test_an_old_template_that_still_serves_is_not_the_new_one_available():
    """In mid-rollout the available replica may be the old one: the words say 0 of 1."""
    live = deployment(replicas=2, updatedReplicas=1, availableReplicas=1, unavailableReplicas=1)
    running = pod(phase="Running", conditions=[{"type": "Ready", "status": "True"}])
    assert not state(live, [running]).done
    live = deployment(replicas=1, updatedReplicas=0, availableReplicas=1)
    assert state(live).words == "operator: 0/1 available: no pod yet"


def test_an_image_that_is_never_pulled_is_hopeless_and_named():
    """The state names deployment, pod, reason and image."""
    message = 'Container image "turbo-engine/operatr:e2e" is not present with pull policy of Never'
    seen = state(deployment(replicas=1, updatedReplicas=1), [pod(waiting("ErrImageNeverPull", message))])
    assert seen.hopeless == f"operator: 0/1 available: pod operator-abc is ErrImageNeverPull: {message}"


def test_only_pods_of_the_newest_replica_set_count():
    """A hopeless pod of an older template does not condemn the new one."""
    old = pod(waiting("ErrImageNeverPull"), name="operator-old", owner="r1")
    new = pod(name="operator-new", owner="r2")
    seen = state(deployment(), [old, new], sets=[replica_set(1, "r1"), replica_set(10, "r2"), replica_set(9, "r3")])
    assert seen.hopeless == ""
    assert "operator-new" in seen.words


def test_a_refusal_to_make_pods_is_hopeless_once_it_lasts():
    """Quota and forbidden are named with the server's words; a fresh one may pass (a ServiceAccount being made)."""
    message = 'pods "operator-1" is forbidden: exceeded quota: small, requested: pods=1, used: pods=0, limited: pods=0'
    failure = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": message}
    lasting = state(deployment(conditions=[{**failure, "lastTransitionTime": START}]))
    assert lasting.hopeless == f"operator: 0/1 available: no pod can be made: {message}"
    fresh = state(deployment(conditions=[{**failure, "lastTransitionTime": "2026-01-02T03:05:04Z"}]))
    assert fresh.hopeless == ""
    assert message in fresh.words


def test_a_progress_deadline_that_is_over_is_hopeless_and_says_what_hangs():
    """The words hold the deadline and the pod's own trouble."""
    over = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}
    warning = event("Unhealthy", "Readiness probe failed: HTTP probe failed with statuscode: 503", count=15)
    live = deployment(replicas=1, updatedReplicas=1, conditions=[over])
    seen = state(live, [pod({"name": "operator", "state": {"running": {}}}, phase="Running")], [warning])
    assert seen.hopeless == (
        "operator: 0/1 available: its progress deadline (60 s) is over: pod operator-abc is running but not ready: "
        "Readiness probe failed: HTTP probe failed with statuscode: 503"
    )


def test_a_progress_deadline_of_an_older_generation_is_not_hopeless():
    """After a new change the old verdict does not count."""
    over = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}
    assert state(deployment(generation=2, conditions=[over])).hopeless == ""


def test_an_image_that_no_registry_has_is_hopeless_at_once():
    """The registry's words decide, from the message or from the events."""
    why = 'Failed to pull image "x:1": rpc error: code = NotFound desc = x:1: not found'
    assert hopeless(pod(waiting("ErrImagePull", why))) is not None
    told = hopeless(pod(waiting("ImagePullBackOff", 'Back-off pulling image "x:1"')), [event("Failed", why)])
    assert told == f"pod operator-abc is ImagePullBackOff: image turbo-engine/operatr:e2e: {why}"


def test_a_registry_that_does_not_answer_is_given_some_tries():
    """A pull that failed for another reason is hopeless after three failures of this pod, not of another."""
    backing_off = pod(waiting("ImagePullBackOff", "Back-off pulling image"))
    why = 'Failed to pull image "x:1": dial tcp: i/o timeout'
    assert hopeless(backing_off, [event("Failed", why, count=2)]) is None
    assert hopeless(backing_off, [event("Failed", why, count=3)]) is not None
    assert hopeless(backing_off, [event("Failed", why, count=3, of="another")]) is None


def test_a_missing_config_map_is_hopeless_once_it_lasts():
    """The ConfigMap may be on its way: the state counts 3 s after the pod started."""
    lost = pod(waiting("CreateContainerConfigError", 'configmap "cm-users" not found'))
    assert hopeless(lost, now_s=NOW_S - 59) is None
    assert hopeless(lost, now_s=NOW_S) == (
        'pod operator-abc is CreateContainerConfigError: configmap "cm-users" not found'
    )


def test_a_crash_loop_is_hopeless_beyond_its_limit_with_the_exit_code():
    """Two restarts are three crashes; fewer may recover."""
    ended = {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}
    crashed = waiting("CrashLoopBackOff", "back-off 20s", restartCount=2, lastState=ended)
    assert hopeless(pod(crashed)) == (
        "pod operator-abc is CrashLoopBackOff: container operator ended with exit code 137 (OOMKilled), "
        "restarted 2 times"
    )
    assert hopeless(pod({**crashed, "restartCount": 1})) is None
    assert hopeless(pod(crashed), crashes=4) is None


def test_a_crash_loop_is_hopeless_also_while_it_is_shown_as_ended():
    """A kubelet that says `terminated` until the next start tells of the same loop; a good end is none."""
    ended = {"name": "operator", "restartCount": 2, "state": {"terminated": {"exitCode": 2, "reason": "Error"}}}
    assert hopeless(pod(ended)) == "pod operator-abc: container operator ended with exit code 2, restarted 2 times"
    assert hopeless(pod({**ended, "restartCount": 1})) is None
    assert hopeless(pod({**ended, "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}})) is None


def test_a_program_that_is_not_in_the_image_is_hopeless_at_once():
    """A start that failed for a missing program is; one that failed for a reason that may pass is not."""
    message = 'failed to create: exec: "/nope": stat /nope: no such file or directory'
    ended = {"terminated": {"exitCode": 128, "reason": "StartError", "message": message}}
    failed = waiting("RunContainerError", "…", lastState=ended)
    assert hopeless(pod(failed)) == (
        f"pod operator-abc: container operator ended with exit code 128 (StartError): {message}"
    )
    ended["terminated"]["message"] = "context deadline exceeded"
    assert hopeless(pod(failed)) is None


def test_an_init_container_is_looked_at_too():
    """An image that an init container lacks is as hopeless."""
    assert hopeless(pod(initContainerStatuses=[waiting("InvalidImageName", "bad")])) is not None


def test_a_rejected_pod_is_hopeless():
    """A pod that its node refused says why."""
    rejected = pod(phase="Failed", reason="OutOfcpu", message="Node didn't have enough resource: cpu")
    assert hopeless(rejected) == "pod operator-abc has failed: OutOfcpu: Node didn't have enough resource: cpu"


def test_ordinary_waiting_is_not_hopeless_but_told():
    """Creating, unscheduled, ending and unready pods each get one line."""
    creating = pod(waiting("ContainerCreating"))
    mount = event("FailedMount", "MountVolume.SetUp failed\nfor volume")
    unscheduled = pod(conditions=[{"type": "PodScheduled", "status": "False", "message": "0/1 nodes are available"}])
    done = pod(phase="Running", conditions=[{"type": "Ready", "status": "True"}])
    going = pod()
    going["metadata"]["deletionTimestamp"] = START
    ended = pod(
        {"name": "c", "state": {"terminated": {"exitCode": 3, "message": "Traceback\n no config\n"}}, "restartCount": 1}
    )
    assert [hopeless(each, now_s=NOW_S) for each in (creating, unscheduled, done, going, ended)] == [None] * 5
    assert describe_pod(creating) == "pod operator-abc is ContainerCreating"
    assert describe_pod(creating, [mount]) == (
        "pod operator-abc is ContainerCreating: MountVolume.SetUp failed for volume"
    )
    assert describe_pod(unscheduled) == "pod operator-abc is not scheduled: 0/1 nodes are available"
    assert describe_pod(done) == ""
    assert describe_pod(going) == "pod operator-abc is going away"
    assert describe_pod(ended) == ("pod operator-abc: container c ended with exit code 3: no config, restarted 1 times")
    assert describe_pod(pod()) == "pod operator-abc is Pending"


def test_the_first_failed_probes_are_not_told():
    """A container that has just begun fails some probes: no warning before the fifteenth."""
    running = pod({"name": "c", "state": {"running": {}}}, phase="Running")
    refused = "Readiness probe failed: connection refused"
    assert describe_pod(running, [event("Unhealthy", refused, count=14)]) == "pod operator-abc is running but not ready"
    assert describe_pod(running, [event("Unhealthy", refused, count=15)]).endswith(refused)


def test_a_back_off_of_the_past_is_not_told_of_a_running_pod():
    """Of a running container only its probes count; of a waiting one everything else."""
    events = [event("BackOff", "Back-off restarting"), event("Unhealthy", "Readiness probe failed", count=99)]
    running = pod({"name": "c", "state": {"running": {}}}, phase="Running")
    assert describe_pod(running, events) == "pod operator-abc is running but not ready: Readiness probe failed"
    assert describe_pod(pod(waiting("ContainerCreating")), events).endswith(": Back-off restarting")


def test_a_finished_init_container_is_no_trouble():
    """What has done its part is passed over."""
    finished = {"name": "init", "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}
    assert describe_pod(pod(initContainerStatuses=[finished])) == "pod operator-abc is Pending"


def stateful_set(*, strategy="RollingUpdate", **status):
    """A StatefulSet of two replicas."""
    spec = {"replicas": 2, "updateStrategy": {"type": strategy}}
    meta = {"name": "store", "uid": "s", "generation": 2}
    return {"kind": "StatefulSet", "metadata": meta, "spec": spec, "status": {"observedGeneration": 2, **status}}


def daemon_set(wanted, updated, available):
    """A DaemonSet on some nodes."""
    status = {"desiredNumberScheduled": wanted, "updatedNumberScheduled": updated, "numberAvailable": available}
    meta = {"name": "agent", "uid": "a", "generation": 1}
    return {"kind": "DaemonSet", "metadata": meta, "spec": {}, "status": {"observedGeneration": 1, **status}}


@pytest.mark.parametrize(
    ("workload", "done"),
    [
        (stateful_set(updatedReplicas=2, availableReplicas=2), True),
        (stateful_set(updatedReplicas=1, availableReplicas=2), False),
        (stateful_set(updatedReplicas=2, availableReplicas=1), False),
        (stateful_set(updatedReplicas=2, availableReplicas=2, observedGeneration=1), False),
        (stateful_set(updatedReplicas=0, availableReplicas=2, strategy="OnDelete"), True),
        (daemon_set(1, 1, 1), True),
        (daemon_set(2, 2, 1), False),
        (daemon_set(2, 1, 2), False),
        (daemon_set(0, 0, 0), True),
    ],
)
def test_a_set_is_done_when_all_its_pods_are_new_and_available(workload, done):
    """StatefulSets and DaemonSets count by their own numbers; what nobody replaces may be old."""
    assert set_state(workload, [], now_s=NOW_S).done is done


def test_a_set_whose_pod_cannot_start_is_hopeless():
    """The pod and the reason are named, as of a Deployment."""
    lost = pod(waiting("ErrImageNeverPull", "absent"), name="store-0", owner="s")
    state = set_state(stateful_set(updatedReplicas=1), [lost], now_s=NOW_S)
    assert state.hopeless == "store: 0/2 available: pod store-0 is ErrImageNeverPull: absent"


def test_a_set_says_where_it_hangs():
    """A pod that is not ready yet is no reason to give up."""
    state = set_state(stateful_set(updatedReplicas=1), [pod(name="store-0", owner="s")], now_s=NOW_S)
    assert (state.done, state.hopeless) == (False, "")
    assert "pod store-0 is Pending" in state.words


def test_a_pull_that_fails_again_from_another_port_is_told_once():
    """Lines that differ only in the ports of addresses are one; another address, image tag or reason is new."""
    said, told = {}, []

    def see(words):
        tell({"Deployment/web": State(done=False, words=words)}, said, told.append)

    def pull(tag, local, remote):
        return f"web: 0/1 available: pod web-1 is ErrImagePull: web:{tag}: read tcp {local}->{remote}: i/o timeout"

    see(pull("2.1", "10.0.0.7:41222", "192.0.2.15:443"))
    see(pull("2.1", "10.0.0.7:41230", "192.0.2.15:443"))
    see(pull("2.1", "10.0.0.7:50001", "192.0.2.16:443"))
    see(pull("2.2", "[2001:db8::7]:41222", "[2001:db8::f]:443"))
    see(pull("2.2", "[2001:db8::7]:50000", "[2001:db8::f]:443"))
    see("web: 1/1 available")
    assert told == [
        pull("2.1", "10.0.0.7:41222", "192.0.2.15:443"),
        pull("2.1", "10.0.0.7:50001", "192.0.2.16:443"),
        pull("2.2", "[2001:db8::7]:41222", "[2001:db8::f]:443"),
        "web: 1/1 available",
    ]
