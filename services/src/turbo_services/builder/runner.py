"""Doing builds in the background: resolve, compose, validate, bundle.

A build that was interrupted, by whatever, is done again from its start when builder is back.
"""

import asyncio
import contextvars
import logging
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

from msgspec.structs import replace
from opentelemetry import trace

from turbo_services.builder import composition
from turbo_services.builder.store import BuildStore, Job
from turbo_services.common import telemetry
from turbo_services.common.changes import Changes
from turbo_services.common.clock import now
from turbo_services.common.peers import Peer, PeerUnavailable, escape
from turbo_services.common.wire import Build, BuildStep, Closure, Graph, Package

STEPS: Final = ("resolve", "compose", "validate", "bundle")
RETRY_S: Final = 0.5

log = logging.getLogger(__name__)


class BuildError(Exception):
    """A step failed; the message names the package."""


def initial_steps() -> list[BuildStep]:
    """The steps of a build that has not begun."""
    return [BuildStep(name=name, status="pending") for name in STEPS]


class Runner:
    """The builds that are being done, one task each."""

    def __init__(self, store: BuildStore, registry: Peer, changes: Changes, patience_s: float) -> None:
        self._store = store
        self._registry = registry
        self._changes = changes
        self._patience_s = patience_s
        self._tasks: dict[str, asyncio.Task[None]] = {}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Take up what was left unfinished; on leaving, stop (the next start takes it up again)."""
        for job in self._store.unfinished():
            self._store.log(job.build.id, "info", "resolve", "builder was restarted: the build starts again")
            self.start(job)
        try:
            yield
        finally:
            tasks = list(self._tasks.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def start(self, job: Job) -> None:
        """Do a build in the background."""
        task = asyncio.create_task(self._run(job), name=f"build {job.build.id}", context=contextvars.Context())
        self._tasks[job.build.id] = task
        task.add_done_callback(lambda _task: self._tasks.pop(job.build.id, None))

    def cancel(self, environment_id: str, reason: str) -> None:
        """End the unfinished builds of an environment."""
        for job in self._store.unfinished(environment_id):
            self._store.log(job.build.id, "error", "", reason)
            self._store.save(replace(job.build, status="failed", error_message=reason, completed_at=now()))
            task = self._tasks.get(job.build.id)
            if task is not None:
                task.cancel()
        self._changes.notify()

    async def _run(self, job: Job) -> None:
        with telemetry.continued(job.traceparent, "build") as span:
            span.set_attributes({"build.id": job.build.id, "environment.id": job.build.environment_id})
            progress = _Progress(
                self._store, self._changes, replace(job.build, status="running", steps=initial_steps())
            )
            try:
                await self._steps(job, progress)
            except BuildError as error:
                span.set_status(trace.Status(trace.StatusCode.ERROR, str(error)))
                log.warning("build failed", extra={"build_id": job.build.id, "error": str(error)})
            except Exception as error:
                log.exception("build broke", extra={"build_id": job.build.id})
                span.record_exception(error)
                span.set_status(trace.Status(trace.StatusCode.ERROR, str(error)))
                progress.fail(f"builder itself failed: {type(error).__name__}: {error}")

    async def _steps(self, job: Job, progress: "_Progress") -> None:
        request, build_id = job.request, job.build.id
        with progress.step("resolve"):
            packages = await self._resolve(job, progress)
            progress.say(f"{len(packages)} packages: {', '.join(f'{p.name}@{p.version}' for p in packages)}")
        root = packages[-1]
        progress.build = replace(progress.build, root_package_version=root.version)
        with progress.step("compose"):
            graph = composition.compose(
                packages,
                environment_id=request.environment_id,
                build_id=build_id,
                root=root.name,
                host=request.ingress_host or None,
            )
            routes = graph.ingress.routes if graph.ingress else []
            progress.say(f"{len(graph.components)} components, {len(routes)} routes")
        with progress.step("validate"):
            composition.validate(packages)
        with progress.step("bundle"):
            artifacts = [composition.artifact_of(package) for package in packages]
            for artifact in artifacts:
                progress.say(f"{artifact.package_name}@{artifact.package_version} {artifact.artifact_hash}")
        progress.succeed(replace(progress.build, artifacts=artifacts), graph)
        log.info("build succeeded", extra={"build_id": build_id, "environment_id": request.environment_id})

    async def _resolve(self, job: Job, progress: "_Progress") -> list[Package]:
        """Ask registry; while it is away, ask again until patience ends."""
        request = job.request
        version = request.root_package_version or "latest"
        path = f"/v1/packages/{escape(request.root_package_name)}/versions/{escape(version)}/dependencies"
        params = [("override", f"{o.package_name}@{o.version}") for o in request.overrides]
        deadline = time.monotonic() + self._patience_s
        while True:
            try:
                answer = await self._registry.get(path, params)
                break
            except PeerUnavailable as error:
                if time.monotonic() >= deadline:
                    raise BuildError(f"package {request.root_package_name}: {error}") from error
                progress.say(f"{error}; asking again")
                await asyncio.sleep(RETRY_S)
        if answer.status != 200:  # noqa: PLR2004
            raise BuildError(f"package {request.root_package_name}@{version}: {answer.message}")
        return answer.decode(Closure).packages


class _Progress:
    """The build as it goes: every change is written and told to whoever waits."""

    def __init__(self, store: BuildStore, changes: Changes, build: Build) -> None:
        self._store = store
        self._changes = changes
        self._step = ""
        self.build = build

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """A step; an error in it fails the build with the step's name."""
        self._step = name
        self._mark(name, status="running", started_at=now())
        with telemetry.tracer.start_as_current_span(name) as span:
            try:
                yield
            except (BuildError, composition.CompositionError) as error:
                span.set_status(trace.Status(trace.StatusCode.ERROR, str(error)))
                self._mark(name, status="failed", completed_at=now(), message=str(error))
                self.fail(f"{name}: {error}")
                raise BuildError(str(error)) from error
        self._mark(name, status="succeeded", completed_at=now())

    def say(self, message: str) -> None:
        """A line in the build's log."""
        self._store.log(self.build.id, "info", self._step, message)
        self._changes.notify()

    def fail(self, message: str) -> None:
        """The build ends here."""
        self._store.log(self.build.id, "error", self._step, message)
        self._store.save(replace(self.build, status="failed", error_message=message, completed_at=now()))
        self._changes.notify()

    def succeed(self, build: Build, graph: Graph) -> None:
        """The build is done, and its graph is what the environment shall run."""
        self._store.log(build.id, "info", self._step, "succeeded")
        self._store.save(replace(build, status="succeeded", completed_at=now()), graph)
        self._changes.notify()

    def _mark(self, name: str, **changes: str) -> None:
        steps = [replace(step, **changes) if step.name == name else step for step in self.build.steps]
        self.build = replace(self.build, steps=steps)
        self._store.save(self.build)
        self._changes.notify()
