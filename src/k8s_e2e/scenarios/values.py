"""The small types of scenario files: durations and JMESPath expressions."""

import re
import warnings
from typing import Annotated, Any

import jmespath
from jmespath.exceptions import JMESPathError
from pydantic import AfterValidator, BeforeValidator, WithJsonSchema

_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h)")
_REFERENCE = re.compile(r"\$?\$\{[^}]*\}")


def seconds(text: Any) -> float:
    """Read a duration as Go writes it (``1h2m``, ``1.5s``, ``300ms``, ``0``) as seconds.

    Raises:
        ValueError: it is not one; a number without a unit is not, either.
    """
    if text in (0, "0"):
        return 0.0
    if isinstance(text, str):
        parts = list(_PART.finditer(text))
        if parts and "".join(part[0] for part in parts) == text:
            return sum(float(part[1]) * _UNITS[part[2]] for part in parts)
    message = f"not a duration such as 90s, 500ms or 1m30s: {text!r}"
    raise ValueError(message)


def _compiled(text: str) -> str:
    """Check an expression; a reference in it will be a name, or a number between backticks."""
    problem: Exception | None = None
    for value in ("x", "1"):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # `text` without quotes between backticks, which JMESPath gave up
                jmespath.compile(_REFERENCE.sub(value, text))
        except (JMESPathError, PendingDeprecationWarning) as error:
            problem = problem or error
        else:
            return text
    message = f"not JMESPath: {' '.join(str(problem).split())}"
    raise ValueError(message) from problem


def search(expression: str, value: Any) -> Any:
    """Return what a JMESPath expression finds in ``value``.

    Raises:
        ValueError: it cannot be evaluated on this value.
    """
    try:
        return jmespath.search(expression, value)
    except (JMESPathError, TypeError, AttributeError) as error:
        message = f"{expression} cannot be evaluated: {' '.join(str(error).split())}"
        raise ValueError(message) from error


def holds(expression: str, value: Any) -> bool:
    """Whether an expression is true of ``value``, as JMESPath has it: not null, false, nor empty.

    One that cannot be evaluated on this value (the length of nothing, say) is not.
    """
    try:
        found = search(expression, value)
    except ValueError:
        return False
    return found is not None and found is not False and found not in ("", [], {})


Duration = Annotated[
    float,
    BeforeValidator(seconds),
    WithJsonSchema({"type": ["string", "integer"], "description": "A duration: 90s, 500ms, 1m30s; or 0."}),
]
Expression = Annotated[
    str, AfterValidator(_compiled), WithJsonSchema({"type": "string", "description": "A JMESPath expression."})
]
