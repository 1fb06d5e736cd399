"""The project profile `k8s-e2e.toml`: everything the kit knows about the platform under test."""

import difflib
import tomllib
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from k8s_e2e.base.errors import UsageError

FILE_NAME = "k8s-e2e.toml"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ImageBuild(_Strict):
    """One Dockerfile and the tags made from it, each with its own build arguments."""

    context: str
    dockerfile: str = "Dockerfile"
    tags: dict[str, dict[str, str]]


class ServicePort(_Strict):
    """One service that the kit talks to: the Service's name and port, and where it says it is ready."""

    name: str
    port: int
    ready: str = "/readyz"
    traced: bool = True


class CustomResource(_Strict):
    """A kind that the operator reconciles; written to ``k8s/<plural>.yaml``."""

    group: str
    version: str
    kind: str
    plural: str

    @property
    def api_version(self) -> str:
        """``group/version``."""
        return f"{self.group}/{self.version}"


class OperatorSource(_Strict):
    """Where the operator's finished writes are found: log lines with ``event``, gaps filled from ``actions_path``."""

    service: str
    event: str = "operator.action"
    actions_path: str = ""


class TraceSource(_Strict):
    """The Jaeger to read, and the services that must appear in a run that asks them."""

    service: str
    port: int = 16686
    expected: tuple[str, ...] = ()


class StationRequest(_Strict):
    """A GET whose JSON answer tells whether a station has been passed."""

    service: str
    path: str


class StationObjects(_Strict):
    """The live objects of a station, by name or labels; each must pass."""

    api_version: str
    kind: str
    name: str = ""
    selector: dict[str, str] = Field(default={})


class Station(_Strict):
    """One station on a change's way through the platform, for the stuck-point message.

    ``${name}`` in it is a value of the scenario (captured, or one of its `vars`); a station that speaks of a name which
    the scenario does not have is left out.
    """

    name: str
    http: StationRequest | None = None
    objects: StationObjects | None = None
    ok: str
    """JMESPath, true on the answer or on each object once the station has been passed."""
    seen: str = ""
    """JMESPath: what is said of it otherwise."""

    @model_validator(mode="after")
    def _one_source(self) -> "Station":
        if (self.http is None) == (self.objects is None):
            message = f"{self.name}: either http or objects must be given"
            raise ValueError(message)
        return self


class Profile(_Strict):
    """A whole `k8s-e2e.toml`. ``root`` is the directory it stands in; its paths are relative to that."""

    root: Path
    file_name: str = FILE_NAME
    name: str
    overlay: str
    namespace: str
    images: tuple[ImageBuild, ...] = ()
    services: tuple[ServicePort, ...] = ()
    custom_resources: tuple[CustomResource, ...] = ()
    operator: OperatorSource | None = None
    traces: TraceSource | None = None
    scenario_dir: str = "scenarios"
    scenarios: tuple[str, ...] = ()
    chain: tuple[Station, ...] = ()
    """The stations a change passes, in order, for the stuck-point message."""

    @model_validator(mode="after")
    def _services_are_known(self) -> "Profile":
        known = {service.name for service in self.services} | {self.traces.service if self.traces else ""}
        asked = {f"chain {one.name}: http.service": one.http.service for one in self.chain if one.http}
        if self.operator and self.operator.actions_path:
            asked["operator.service"] = self.operator.service
        for where, name in asked.items():
            if "$" not in name and name not in known:
                message = f"{where}: {name!r} is asked over HTTP, but no [[services]] has that name"
                raise ValueError(message)
        return self

    @property
    def unconfigured(self) -> list[str]:
        """The tables that are left out although evidence depends on them."""
        return [name for name, table in (("operator", self.operator), ("traces", self.traces)) if table is None]

    @property
    def file(self) -> Path:
        """The file it was read from."""
        return self.root / self.file_name

    def service(self, name: str) -> ServicePort:
        """Return one service.

        Raises:
            UsageError: the profile has none of that name.
        """
        for service in self.services:
            if service.name == name:
                return service
        known = ", ".join(service.name for service in self.services)
        message = f"no service {name!r} in {self.file}"
        raise UsageError(message, hint=f"known: {known}" if known else "it has none: add one as [[services]]")


def load_profile(path: Path) -> Profile:
    """Read a `k8s-e2e.toml`.

    Raises:
        UsageError: absent, not UTF-8, not TOML, or with a key that is wrong or unknown (named).
    """
    try:
        values: dict[str, Any] = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        message = f"cannot read the project profile {path}: {error.strerror}"
        raise UsageError(
            message, hint="run inside a project that has a k8s-e2e.toml, or name one by --profile"
        ) from error
    except tomllib.TOMLDecodeError as error:
        message = f"{path} is not TOML: {error}"
        raise UsageError(message) from error
    except UnicodeDecodeError as error:
        message = f"{path} is not UTF-8: {error}"
        raise UsageError(message) from error
    for own in ("root", "file_name"):
        if own in values:
            raise UsageError(f"{path}: {own}: it says where this file is and cannot be set")
    try:
        return Profile(root=path.parent.resolve(), file_name=path.name, **values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        message = ": ".join(part for part in (str(path), where, first["msg"].removeprefix("Value error, ")) if part)
        raise UsageError(message, hint=_alike(first["type"], first["loc"])) from error


def _alike(problem: str, where: tuple[int | str, ...]) -> str:
    """Return the keys that an unknown one may have been meant to be."""
    if problem != "extra_forbidden" or len(where) != 1:
        return ""
    keys = [key for key in Profile.model_fields if key not in ("root", "file_name")]
    found = difflib.get_close_matches(str(where[0]), keys, n=1)
    return f"did you mean {found[0]}?" if found else f"known: {', '.join(keys)}"
