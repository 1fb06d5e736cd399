"""The reference of step kinds in docs/scenarios.md, written from the models.

`python -m k8s_e2e.scenarios.reference docs/scenarios.md` writes it anew.
"""

import sys
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from k8s_e2e.base import files
from k8s_e2e.scenarios.model import KINDS, Manifest, Pattern, ScenarioFile, Step, Template, TemplateFile

BEGIN, END = "<!-- reference: begin -->", "<!-- reference: end -->"
_WORDS = {str: "text", int: "number", float: "duration", bool: "true or false", Any: "anything"}


def reference() -> str:
    """Return the reference as Markdown."""
    parts = ["### Files", "", *_table("A scenario", ScenarioFile), *_table("A file with templates", TemplateFile)]
    parts += _table("A template", Template)
    parts += ["### Steps", "", *_table("Every step", Step)]
    described: set[type[BaseModel]] = set()
    for kind, model in KINDS.items():
        own = {name: field for name, field in model.model_fields.items() if name not in Step.model_fields}
        parts += [
            f"#### `{kind}`",
            "",
            " ".join((model.__doc__ or "").split()),
            "",
            *_rows(own),
            *_nested_in(own, described),
        ]
    return "\n".join(parts).rstrip() + "\n"


def write(path: Path) -> None:
    """Put the reference between its marks in ``path``."""
    before, _, rest = path.read_text("utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    files.write(path, f"{before}{BEGIN}\n\n{reference()}\n{END}{after}")


def _nested_in(fields: dict[str, FieldInfo], described: set[type[BaseModel]]) -> list[str]:
    """Describe the models inside ``fields``, each once in the whole reference."""
    parts: list[str] = []
    for name, field in fields.items():
        model = _model_of(field.annotation)
        if model is None or model in described:
            continue
        described.add(model)
        parts += [f"In `{field.alias or name}`: {_sentence(model)}", ""]
        if model not in (Pattern, Manifest):
            parts += [*_rows(model.model_fields), *_nested_in(model.model_fields, described)]
    return parts


def _table(title: str, model: type[BaseModel]) -> list[str]:
    return [f"**{title}**", "", *_rows(model.model_fields)]


def _rows(fields: dict[str, FieldInfo]) -> list[str]:
    rows = ["| key | is | |", "| --- | --- | --- |"]
    for name, field in fields.items():
        about = field.description or ""
        rows.append(f"| `{field.alias or name}` | {_type(field.annotation)}{_default(field)} | {about} |")
    return [*rows, ""]


def _sentence(model: type[BaseModel]) -> str:
    text = " ".join((model.__doc__ or "").split())
    return text[:1].lower() + text[1:]


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return ", needed"
    value = field.default
    if value in (None, "", PydanticUndefined, 0.0) or value in ([], {}) or isinstance(value, BaseModel):
        return ""
    return f", default `{str(value).lower() if isinstance(value, bool) else value}`"


def _type(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type(arguments[0])
    if origin in (UnionType, Union):
        return " or ".join(_type(part) for part in arguments if part is not type(None))
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in arguments)
    if origin is list:
        return f"list of {_type(arguments[0])}"
    if origin is dict:
        return f"name: {_type(arguments[1])}"
    return _WORDS.get(annotation, "mapping")


def _model_of(annotation: Any) -> type[BaseModel] | None:
    for part in (annotation, *get_args(annotation)):
        if isinstance(part, type) and issubclass(part, BaseModel):
            return part
    return None


if __name__ == "__main__":
    write(Path(sys.argv[1]))
