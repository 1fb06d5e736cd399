"""`run.json`: what was run, with what, and how each stage ended."""

import shlex
from typing import Any, Literal

import msgspec

SCHEMA_VERSION = 1

StageStatus = Literal["passed", "failed", "skipped", "interrupted"]


class StageOutcome(msgspec.Struct, omit_defaults=True):
    """How one stage ended. ``error`` is one line; ``exit_code`` as on the command line.

    ``duration_s`` is wall time with the notebook around it, ``work_s`` the stage's own part of it.
    """

    name: str
    status: StageStatus
    started: str
    duration_s: float
    work_s: float = 0.0
    exit_code: int = 0
    error: str = ""
    hint: str = ""


class ImageRecord(msgspec.Struct, omit_defaults=True):
    """One image in the cluster: the reference pods use, its digest, its size as loaded, where it came from.

    The digest is the config's where the image was loaded, the one that the node pulled where it comes from a registry.
    """

    reference: str
    digest: str = ""
    bytes: int = 0
    source: str = ""  # "built", "cached", "official", "pulled"


class ClusterIdentity(msgspec.Struct, omit_defaults=True):
    """What tells a cluster from another one that a context of the same name may mean later.

    ``server`` is a hash of the API server's URL, which is nobody's business; ``uid`` is that of namespace kube-system,
    where it may be read.
    """

    server: str = ""
    uid: str = ""

    def same_as(self, other: "ClusterIdentity") -> bool:
        """Whether both may be the same cluster: by uid, else by server; what neither knows is no difference."""
        if self.uid and other.uid:
            return self.uid == other.uid
        return not (self.server and other.server) or self.server == other.server


class RunRecord(msgspec.Struct, omit_defaults=True):
    """The whole of `run.json`."""

    schema_version: int = SCHEMA_VERSION
    run_id: str = ""
    attempt: int = 1
    commit: str = ""
    profile: str = ""
    unconfigured: list[str] = []  # tables that the profile leaves out and evidence depends on: "operator", "traces"
    started: str = ""
    finished: str = ""
    provider: str = ""
    cluster: str = ""
    identity: ClusterIdentity | None = None  # where the cluster's name alone does not say which one it is
    namespace: str = ""
    image_prefix: str = ""  # what stands before the tags of the project's own images, where they come from a registry
    parameters: dict[str, Any] = {}
    tools: dict[str, str] = {}  # name -> version: kit, kubernetes, etcd, containerd, python, ...
    images: list[ImageRecord] = []
    stages: list[StageOutcome] = []
    exit_code: int | None = None

    def stage(self, name: str) -> StageOutcome | None:
        """Return the outcome of stage ``name``, or None while it has none."""
        return next((stage for stage in self.stages if stage.name == name), None)

    def command(self, *words: str) -> str:
        """Return a command line for this run: the program and the profile as they were named when it was begun."""
        profile = str(self.parameters.get("profile_named") or "")
        program = str(self.parameters.get("program") or "./e2e")
        return shlex.join([program, *words, *(["--profile", profile] if profile else [])])

    def put(self, outcome: StageOutcome) -> None:
        """Set the outcome of one stage, replacing an earlier one of that name in place."""
        for index, stage in enumerate(self.stages):
            if stage.name == outcome.name:
                self.stages[index] = outcome
                return
        self.stages.append(outcome)
