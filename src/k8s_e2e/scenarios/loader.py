"""From names on the command line to scenarios that are known to be sound."""

import fnmatch
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from k8s_e2e.base.errors import UsageError
from k8s_e2e.model.profile import Profile
from k8s_e2e.scenarios import references, source, templates
from k8s_e2e.scenarios.checking import checked
from k8s_e2e.scenarios.model import KINDS, ScenarioFile, Step

SUFFIXES = (".yaml", ".yml")
SENDING = ("http", "wait", "screenshot")  # kinds whose steps have a trace


@dataclass(frozen=True)
class PlannedStep:
    """One step, checked but with its references still in it."""

    kind: str
    name: str
    tree: source.Mapping
    mark: source.Mark

    @property
    def model(self) -> type[Step]:
        """The model of its kind."""
        return KINDS[self.kind]


@dataclass(frozen=True)
class Scenario:
    """A scenario file, read and checked."""

    name: str
    description: str
    path: Path
    steps: tuple[PlannedStep, ...]
    cleanup: tuple[PlannedStep, ...] = ()
    variables: Mapping[str, Any] = field(default_factory=dict)


def load(names: list[str], profile: Profile) -> list[Scenario]:
    """Read scenarios by name (in the profile's directory), glob or path; each once, in the order given.

    Raises:
        UsageError: one is not found or wrong (file and line).
    """
    paths = list(dict.fromkeys(path for name in names for path in _paths(name, profile)))
    if not paths:
        message = "no scenario is named"
        raise UsageError(message, hint="name one by --scenarios, or list some in k8s-e2e.toml")
    scenarios: list[Scenario] = []
    for path in paths:
        scenario = read_scenario(path, profile)
        for other in scenarios:
            if other.name == scenario.name:
                message = f"{path}: {other.path} is called {scenario.name!r}, too"
                raise UsageError(message, hint="give each scenario a name of its own")
        scenarios.append(scenario)
    return scenarios


def read_scenario(path: Path, profile: Profile) -> Scenario:
    """Read and check one scenario file.

    Raises:
        UsageError: it is wrong (file and line).
    """
    tree = source.read(path)
    file = checked(ScenarioFile, tree, tree.mark)
    known: dict[str, templates.Known] = {}
    for name, asked in zip(file.use, tree["use"].marks if file.use else [], strict=True):
        known |= templates.read_templates(path.parent / name, asked)
    steps = tuple(_planned(tree, "steps", known, profile))
    cleanup = tuple(_planned(tree, "cleanup", known, profile))
    _check_names(tree, file, steps, cleanup)
    return Scenario(file.name, file.description, path, steps, cleanup, tree.get("vars") or {})


def _planned(
    tree: source.Mapping, part: str, known: Mapping[str, templates.Known], profile: Profile
) -> Iterator[PlannedStep]:
    raw_steps = tree.get(part)
    if not isinstance(raw_steps, source.Sequence):
        return  # no cleanup
    for raw, mark in zip(raw_steps, raw_steps.marks, strict=True):
        for step in templates.expand(raw, known, mark):
            checked(KINDS[step.kind], step.tree, step.mark)
            _check_service(step, profile)
            if step.kind == "trace" and profile.traces is None:
                hint = "add [traces] to the project profile, or take the step out"
                message = "a trace is asked for, but the project profile names no trace source"
                raise source.wrong(step.mark, message, hint=hint)
            yield PlannedStep(step.kind, step.tree.get("name") or _title(step.kind, step.tree), step.tree, step.mark)


def _check_service(step: templates.Expanded, profile: Profile) -> None:
    content = step.tree[step.kind]
    holder = content.get("http") if step.kind == "wait" else content
    if isinstance(holder, source.Mapping):
        service = holder.get("service")
        if isinstance(service, str) and "$" not in service:
            try:
                profile.service(service)
            except UsageError as error:
                mark = holder.marks["service"]
                raise source.wrong(mark, error.message, hint=error.hint, caller=step.mark) from error


def _check_names(
    tree: source.Mapping, file: ScenarioFile, steps: tuple[PlannedStep, ...], cleanup: tuple[PlannedStep, ...]
) -> None:
    """Every `${name}` has a value when its step comes, and every `trace` an earlier step to look at."""
    names = set(references.RUN)
    for name, value in file.vars.items():
        mark = tree["vars"].marks[name]
        _check_defined(value, names, mark)
        _check_name(name, mark)
        names.add(name)
    sent: set[str] = set()
    for step in (*steps, *cleanup):
        _check_defined(step.tree, names, step.mark)
        captures: Mapping[str, Any] = step.tree.get("capture") or {}
        for name in captures:
            _check_name(name, source.place(step.tree, ("capture", name)) or step.mark, caller=step.mark)
        names |= set(captures)
        if step.kind == "trace" and "$" not in step.tree["trace"]["of"] and step.tree["trace"]["of"] not in sent:
            mark = step.tree["trace"].marks["of"]
            of = step.tree["trace"]["of"]
            raise source.wrong(mark, f"no earlier step that sends a request is called {of!r}", caller=step.mark)
        if step.kind in SENDING:
            sent.add(step.name)


def _check_defined(tree: Any, names: set[str], fallback: source.Mark) -> None:
    for reference in references.found(tree):
        if reference.name not in names:
            mark = reference.mark or fallback
            hint = f"known here: {', '.join(sorted(names))}; `$${{` writes a plain `${{`"
            raise source.wrong(mark, f"${{{reference.name}}} has no value here", hint=hint, caller=fallback)


def _check_name(name: str, mark: source.Mark, *, caller: source.Mark | None = None) -> None:
    if not references.NAME.match(name):
        hint = "letters, digits and _ only, no digit first"
        raise source.wrong(mark, f"{name!r} cannot be a name", hint=hint, caller=caller)


def _title(kind: str, tree: source.Mapping) -> str:
    """Return a name for a step that has none."""
    content = tree[kind]
    target = content.get("http") if kind == "wait" else content
    if kind in ("http", "wait", "screenshot") and isinstance(target, Mapping):
        words = [kind, target.get("method", ""), target["service"], target["path"]]
    elif kind in ("exec", "script", "trace"):
        words = [kind, content.get("of") or content.get("pod") or " ".join(map(str, content.get("command", [])))]
    else:
        target = content.get("object") if kind == "wait" else content
        metadata = target.get("metadata") or {}
        name = target.get("name") or metadata.get("name") or labels(metadata.get("labels") or {})
        words = [kind, "no" if tree.get("absent") else "", target["kind"], name]
    return " ".join(word for word in words if word)


def labels(selector: Mapping[str, Any]) -> str:
    """Return labels as a selector is written: ``a=b,c=d``."""
    return ",".join(f"{key}={value}" for key, value in selector.items())


def _paths(name: str, profile: Profile) -> list[Path]:
    directory = profile.root / profile.scenario_dir
    if "/" in name or name.endswith(SUFFIXES):
        return _files(name, directory)
    available = {path.stem: path for path in sorted(directory.glob("*")) if path.suffix in SUFFIXES}
    if name in available:
        return [available[name]]
    if any(sign in name for sign in "*?["):
        found = [path for stem, path in available.items() if fnmatch.fnmatchcase(stem, name) and _is_scenario(path)]
        if found:
            return found
    scenarios = [stem for stem, path in available.items() if _is_scenario(path)]
    message = f"no scenario is called {name!r} in {directory}"
    raise UsageError(message, hint=f"known: {', '.join(scenarios) or 'none'}; or name a path")


def _files(name: str, directory: Path) -> list[Path]:
    for base in (Path(), directory):
        path = base / name
        if path.is_file():
            return [path.resolve()]
        if any(sign in name for sign in "*?[") and not path.is_absolute():
            found = sorted(item for item in base.glob(name) if item.suffix in SUFFIXES and _is_scenario(item))
            if found:
                return [item.resolve() for item in found]
    message = f"no scenario file {name}"
    raise UsageError(message, hint=f"paths are relative to the current directory or to {directory}")


def _is_scenario(path: Path) -> bool:
    """Whether a glob should take it: files with templates lie beside scenarios; a broken file is not passed over."""
    try:
        return "templates" not in source.read(path)
    except UsageError:
        return True
