"""What may stand in a scenario file: one model a step kind. The reference in docs/scenarios.md is made from these."""

from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from k8s_e2e.scenarios.values import Duration, Expression


class Strict(BaseModel):
    """Unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True, populate_by_name=True)


class Step(Strict):
    """What every step may have beside the key that names its kind."""

    kind: ClassVar[str]

    name: str = Field(default="", description="How the step is called in reports, and by `trace: {of: ...}`.")
    timeout: Duration | None = Field(default=None, description="How long it may take; a wait or assert is retried.")
    expect_failure: str = Field(
        default="", description="The step passes if it is refused with a message that contains this text."
    )


# http


class HttpRequest(Strict):
    """A request to a service of the profile, through a port-forward, with a traceparent that is remembered."""

    service: str = Field(description="A service of the profile.")
    method: str = Field(default="GET", pattern=r"^[A-Z]+$")
    path: str = Field(pattern=r"^(/|\$\{)", description="Path and query.")
    json_: Any = Field(default=None, alias="json", description="The body, sent as JSON.")
    body: str | None = Field(default=None, description="The body, sent as it is.")
    headers: dict[str, str] = Field(default={})

    @model_validator(mode="after")
    def _one_body(self) -> "HttpRequest":
        if self.json_ is not None and self.body is not None:
            message = "json and body cannot both be given"
            raise ValueError(message)
        return self


class HttpExpect(Strict):
    """What the reply must be; everything given must hold."""

    status: int | list[int] | None = Field(default=None, description="One of these; without it any 2xx.")
    json_: Any = Field(default=None, alias="json", description="Subset of the body.")
    where: Expression | None = Field(default=None, description="True on the body, read as JSON.")
    body: str | None = Field(default=None, description="Text that the body contains.")
    headers: dict[str, str] = Field(default={}, description="Headers with exactly these values.")


class HttpStep(Step):
    """Send one request."""

    kind: ClassVar[str] = "http"
    http: HttpRequest
    expect: HttpExpect = HttpExpect()
    capture: dict[str, Expression] = Field(default={}, description="Name -> JMESPath on the reply's JSON.")


# wait


class ObjectRef(Strict):
    """One live object."""

    api_version: str = Field(alias="apiVersion")
    kind: str
    name: str
    namespace: str | None = Field(default=None, description="Without it the run's.")


class WaitFor(Strict):
    """What is looked at again and again, and what it must become; an unfinished answer is not an error."""

    http: HttpRequest | None = Field(default=None, description="A request that may be sent many times.")
    object: ObjectRef | None = Field(default=None, description="A live object; watched, not polled.")
    until: Expression | None = Field(default=None, description="True on the reply's JSON, or on the object.")
    expect: HttpExpect | None = Field(default=None, description="What the reply must be.")
    unless: Expression | None = Field(default=None, description="Once this is true, waiting is hopeless.")
    show: Expression | None = Field(default=None, description="What is said of the last state seen.")
    timeout: Duration | None = Field(default=None, description="Same as on the step.")

    @model_validator(mode="after")
    def _complete(self) -> "WaitFor":
        if (self.http is None) == (self.object is None):
            message = "either http or object must be given"
            raise ValueError(message)
        if self.until is None and self.expect is None:
            message = "until or expect must be given"
            raise ValueError(message)
        if self.expect is not None and self.http is None:
            message = "expect is for http; use until for an object"
            raise ValueError(message)
        return self


class WaitStep(Step):
    """Wait until a reply or an object is as expected, seen twice in a row."""

    kind: ClassVar[str] = "wait"
    wait: WaitFor
    hold: Duration = Field(default=0.0, alias="for", description="It must hold that long.")
    fail_fast: bool = Field(default=True, description="End at once in a state that can never become right.")
    capture: dict[str, Expression] = Field(default={}, description="Name -> JMESPath on the reply or the object.")

    @model_validator(mode="after")
    def _one_timeout(self) -> "WaitStep":
        if self.timeout is not None and self.wait.timeout is not None:
            message = "timeout stands twice: in wait and on the step"
            raise ValueError(message)
        return self


# objects


class Metadata(BaseModel):
    """By what objects are found; anything else in it is compared."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str | None = None
    namespace: str | None = None
    labels: dict[str, str] = Field(default={})


class Pattern(BaseModel):
    """A part of a Kubernetes object: found by `metadata.name` or `labels`, everything given must be in the live one."""

    model_config = ConfigDict(extra="allow", frozen=True, populate_by_name=True)

    api_version: str = Field(alias="apiVersion", min_length=1)
    kind: str = Field(min_length=1)
    metadata: Metadata

    @model_validator(mode="after")
    def _findable(self) -> "Pattern":
        if not self.metadata.name and not self.metadata.labels:
            message = "metadata needs a name or labels to find the object by"
            raise ValueError(message)
        return self


class AssertStep(Step):
    """Compare live objects: at least one matches (`count`: so many; `absent`: none), seen twice in a row."""

    kind: ClassVar[str] = "assert"
    assert_: Pattern = Field(alias="assert")
    where: Expression | None = Field(default=None, description="Also true on the object.")
    absent: bool = Field(default=False, description="No object may match.")
    count: int | None = Field(default=None, ge=1, description="Exactly so many objects match.")
    hold: Duration = Field(default=0.0, alias="for", description="It must hold that long.")
    settled: bool = Field(
        default=True, description="Status must be of the current generation, and the rollout finished."
    )
    fail_fast: bool = Field(default=True, description="End at once in a state that can never become right.")
    capture: dict[str, Expression] = Field(default={}, description="Name -> JMESPath on the object that matched.")

    @model_validator(mode="after")
    def _sensible(self) -> "AssertStep":
        if self.absent and (self.count is not None or self.capture):
            message = "absent goes with neither count nor capture"
            raise ValueError(message)
        return self


class Manifest(BaseModel):
    """A whole Kubernetes object, with `apiVersion`, `kind` and `metadata.name`."""

    model_config = ConfigDict(extra="allow", frozen=True, populate_by_name=True)

    api_version: str = Field(alias="apiVersion", min_length=1)
    kind: str = Field(min_length=1)
    metadata: Metadata

    @model_validator(mode="after")
    def _named(self) -> "Manifest":
        if not self.metadata.name:
            message = "metadata.name is needed"
            raise ValueError(message)
        return self


class ApplyStep(Step):
    """Server-side apply one object."""

    kind: ClassVar[str] = "apply"
    apply: Manifest
    capture: dict[str, Expression] = Field(default={}, description="Name -> JMESPath on the applied object.")


class DeleteStep(Step):
    """Delete objects by name or labels; nothing waits for their end.

    If there is nothing to delete the step fails, except in cleanup.
    """

    kind: ClassVar[str] = "delete"
    delete: Pattern


# programs


class ProgramExpect(Strict):
    """What the program must leave; everything given must hold."""

    exit_code: int = 0
    stdout: str | None = Field(default=None, description="Text that the output contains.")
    where: Expression | None = Field(default=None, description="True on the output, read as JSON.")


class Exec(Strict):
    """A command in a running container."""

    pod: str | None = Field(default=None, description="The pod's name; or use selector.")
    selector: dict[str, str] = Field(default={}, description="Labels of the pod: the first running one is taken.")
    container: str = ""
    command: list[str] = Field(min_length=1, description="Program and arguments; no shell.")

    @model_validator(mode="after")
    def _one_way(self) -> "Exec":
        if bool(self.pod) == bool(self.selector):
            message = "either pod or selector must be given"
            raise ValueError(message)
        return self


class ExecStep(Step):
    """Run a command in a container (`kubectl exec`)."""

    kind: ClassVar[str] = "exec"
    exec: Exec
    expect: ProgramExpect = ProgramExpect()
    capture: dict[str, Expression] = Field(default={}, description="Name -> JMESPath on the output as JSON.")


class Script(Strict):
    """A program text for `/bin/sh -eu`, beside the scenario file, with KUBECONFIG and kubectl at hand."""

    run: str = Field(min_length=1, description="The text; `${...}` in it is the shell's.")
    env: dict[str, str] = Field(default={}, description="Variables; captured values come in here.")


class ScriptStep(Step):
    """Run a shell script on this machine: the last resort."""

    kind: ClassVar[str] = "script"
    script: Script
    expect: ProgramExpect = ProgramExpect()
    capture: dict[str, Expression] = Field(default={}, description="Name -> JMESPath on the output as JSON.")


# looking on


class Screenshot(Strict):
    """A page of a service in a real browser."""

    service: str = Field(description="A service of the profile.")
    path: str = Field(pattern=r"^(/|\$\{)")
    contains: list[str] = Field(default=[], description="Texts that the page must show.")
    mask: list[str] = Field(default=[], description="CSS selectors of what is blacked out.")
    width: int = Field(default=1280, ge=200, le=4000)
    height: int = Field(default=800, ge=200, le=4000)
    theme: Literal["light", "dark"] = "light"
    console_errors: int | None = Field(default=None, ge=0, description="At most so many errors in its console.")


class ScreenshotStep(Step):
    """Take a picture of a page, and its text."""

    kind: ClassVar[str] = "screenshot"
    screenshot: Screenshot


class TraceOf(Strict):
    """What the trace of an earlier step must show."""

    of: str = Field(min_length=1, description="Name of an earlier step that sent a request.")
    services: list[str] = Field(default=[], description="Each has a span in it.")
    errors: int | None = Field(default=None, ge=0, description="Exactly so many spans are errors.")
    timeout: Duration | None = Field(default=None, description="Same as on the step.")


class TraceStep(Step):
    """Wait until the trace of an earlier step's request is complete: services there, no span without its parent."""

    kind: ClassVar[str] = "trace"
    trace: TraceOf

    @model_validator(mode="after")
    def _one_timeout(self) -> "TraceStep":
        if self.timeout is not None and self.trace.timeout is not None:
            message = "timeout stands twice: in trace and on the step"
            raise ValueError(message)
        return self


KINDS: dict[str, type[Step]] = {
    model.kind: model
    for model in (
        HttpStep,
        WaitStep,
        AssertStep,
        ApplyStep,
        DeleteStep,
        ExecStep,
        ScreenshotStep,
        TraceStep,
        ScriptStep,
    )
}
"""Step kind -> model."""


# files


class ScenarioFile(Strict):
    """The top of a scenario file; steps are checked one by one."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    description: str = ""
    use: list[str] = Field(default=[], description="Files with step templates, relative to this one.")
    vars: dict[str, Any] = Field(default={}, description="Names for values, used as `${name}`.")
    steps: list[dict[str, Any]] = Field(min_length=1)
    cleanup: list[dict[str, Any]] = Field(default=[], description="Always run, in order.")


class Template(Strict):
    """A step of one's own, made of others."""

    description: str = ""
    required: list[str] = Field(default=[], description="Parameters that must be given.")
    defaults: dict[str, Any] = Field(default={}, description="Further parameters, and their values if not given.")
    steps: list[dict[str, Any]] = Field(min_length=1)

    @property
    def parameters(self) -> list[str]:
        """All parameters."""
        return [*self.required, *self.defaults]


class TemplateFile(Strict):
    """The top of a file with step templates."""

    description: str = ""
    templates: dict[str, Template] = Field(min_length=1)
