"""Checking what was read against its model: the first thing wrong is told in one line, with file and line."""

import difflib
from collections.abc import Iterable
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from k8s_e2e.base.errors import UsageError
from k8s_e2e.scenarios import source

M = TypeVar("M", bound=BaseModel)


def checked(model: type[M], tree: Any, fallback: source.Mark) -> M:
    """Return ``tree`` as ``model``.

    Raises:
        UsageError: it does not fit; file, line, key, and what would.
    """
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        # A misspelt key is also a missing one; the first is the cause.
        first = min(error.errors(), key=lambda each: each["type"] != "extra_forbidden")
        location = first["loc"]
        mark = source.place(tree, location) or fallback
        keys = ".".join(str(part) for part in location)
        if first["type"] == "extra_forbidden":
            known = keys_of(_model_at(model, location[:-1]))
            raise unknown(mark, f"unknown key {keys!r}", str(location[-1]), known) from error
        if first["type"] == "missing":
            raise source.wrong(mark, f"key {keys!r} is missing") from error
        reason = first["msg"].removeprefix("Value error, ")
        text = reason[:1].lower() + reason[1:]
        raise source.wrong(mark, f"{keys}: {text}" if keys else text, caller=fallback) from error


def unknown(mark: source.Mark, what: str, name: str, known: Iterable[str]) -> UsageError:
    """Return the error for a name that is not one of ``known``, with the nearest ones first."""
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return source.wrong(mark, what, hint=f"{hint}known: {', '.join(names)}")


def keys_of(model: type[BaseModel]) -> list[str]:
    """Return the keys of a model, as they are written."""
    return [_key(name, field) for name, field in model.model_fields.items()]


def _key(name: str, field: FieldInfo) -> str:
    return field.alias or name


def _model_at(model: type[BaseModel], location: tuple[int | str, ...]) -> type[BaseModel]:
    for part in location:
        for name, field in model.model_fields.items():
            if _key(name, field) == part:
                candidates = [field.annotation, *getattr(field.annotation, "__args__", ())]
                nested = [item for item in candidates if isinstance(item, type) and issubclass(item, BaseModel)]
                model = nested[0] if nested else model
    return model
