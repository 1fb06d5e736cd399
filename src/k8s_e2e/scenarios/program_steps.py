"""Steps that run programs: in a container, or on this machine."""

import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from k8s_e2e.base import files, process
from k8s_e2e.base.text import one_line
from k8s_e2e.cluster.provider import Cluster
from k8s_e2e.platform.kube import ApiError
from k8s_e2e.scenarios import http_steps, matching
from k8s_e2e.scenarios.loader import labels
from k8s_e2e.scenarios.model import Exec, ExecStep, ProgramExpect, ScriptStep
from k8s_e2e.scenarios.references import written
from k8s_e2e.scenarios.values import holds
from k8s_e2e.scenarios.world import Outcome, World

_SHOWN = 2000  # characters of output in a result


def run_exec(step: ExecStep, world: World) -> Outcome:
    """Run the command in the container, by kubectl."""
    try:
        pod = step.exec.pod or _pod(step.exec, world)
    except ApiError as error:
        return Outcome(passed=False, message=f"no pod to run it in: {error}")
    if not pod:
        return Outcome(
            passed=False, message=f"no running pod with {labels(step.exec.selector)} to run it in", waited=True
        )
    cluster = world.context.cluster
    argv: list[str | Path] = [world.context.kubectl, f"--kubeconfig={cluster.kubeconfig}"]
    argv += [f"--context={cluster.context}"] if cluster.context else []
    argv += [f"--namespace={world.context.namespace}", "exec", pod]
    argv += [f"--container={step.exec.container}"] if step.exec.container else []
    return _run([*argv, "--", *step.exec.command], step, world, {}, "the command")


def run_script(step: ScriptStep, world: World) -> Outcome:
    """Run the text in a shell."""
    with tempfile.TemporaryDirectory(prefix="k8s-e2e-script-") as scratch:
        environment = {
            **{name: written(value) for name, value in world.names.items()},
            **step.script.env,
            "KUBECONFIG": kubeconfig(world.context.cluster, Path(scratch)),
            "K8S_E2E_NAMESPACE": world.context.namespace,
            "K8S_E2E_RUN_ID": world.context.run_id,
            "K8S_E2E_IMAGE_PREFIX": world.context.image_prefix,
            "PATH": f"{world.context.kubectl.parent}{os.pathsep}{os.environ.get('PATH', '')}",
        }
        return _run(["/bin/sh", "-euc", step.script.run], step, world, environment, "the script")


def kubeconfig(cluster: Cluster, scratch: Path) -> str:
    """Return a KUBECONFIG whose current context is the run's cluster.

    A user's own file may name another one, production even: a file in ``scratch``, read first, says which is meant.
    """
    if not cluster.shared:
        return str(cluster.kubeconfig)
    first = scratch / "context"
    files.write_json(first, {"apiVersion": "v1", "kind": "Config", "current-context": cluster.context}, mode=0o600)
    return f"{first}{os.pathsep}{cluster.kubeconfig}"


def _run(
    argv: Sequence[str | Path], step: ExecStep | ScriptStep, world: World, environment: dict[str, str], what: str
) -> Outcome:
    timeout_s = world.within(step.timeout, world.context.settings.step_timeout_s)
    directory = world.directory if isinstance(step, ScriptStep) else None
    try:
        done = process.run(
            argv, timeout_s=max(timeout_s, 0.1), cwd=directory, env=environment, check=False, tethered=True
        )
    except process.ProgramFailed as error:
        return Outcome(passed=False, message=f"{what}: {error.message}")
    outcome = _judged(step.expect, done, what)
    if outcome.passed:
        http_steps.capture(step.capture, _json(done.stdout), outcome, what="the output")
    return outcome


def _judged(expect: ProgramExpect, done: process.Finished, what: str) -> Outcome:
    problems = []
    if done.code != expect.exit_code:
        problems.append(f"{what} exited with {done.code}, expected {expect.exit_code}")
    if expect.stdout is not None and expect.stdout not in done.stdout:
        problems.append(f"its output does not contain {expect.stdout!r}")
    if expect.where is not None and not holds(expect.where, _json(done.stdout)):
        problems.append(f"not so of its output: {expect.where}")
    expected = expect.model_dump(exclude_unset=True) or {"exit_code": 0}
    actual = {"exit_code": done.code, "stdout": done.stdout[-_SHOWN:], "stderr": done.stderr[-_SHOWN:]}
    said = one_line(done.stderr or done.stdout, 500)
    message = "; ".join(problems) + (f": {said}" if said else "") if problems else one_line(done.stdout)
    return Outcome(
        passed=not problems,
        message=message,
        expected=expected,
        actual=actual,
        diff=matching.diff(expected, actual, title=what) if problems else "",
        text=done.stdout + done.stderr,
    )


def _pod(wanted: Exec, world: World) -> str:
    selector = labels(wanted.selector)
    pods = world.context.kube.list("v1", "Pod", world.context.namespace, selector=selector)["items"]
    running = [
        str(pod["metadata"]["name"])
        for pod in pods
        if pod.get("status", {}).get("phase") == "Running" and "deletionTimestamp" not in pod["metadata"]
    ]
    return min(running, default="")


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None
