"""Reading a model file: absent, newer or broken files give one clear line."""

from pathlib import Path
from typing import TypeVar

import msgspec

from k8s_e2e.base.errors import UsageError

T = TypeVar("T", bound=msgspec.Struct)


def load(path: Path, model: type[T]) -> T:
    """Read ``path`` as ``model``.

    Raises:
        UsageError: the file is absent, of a newer schema version, or not what the model says.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        message = f"cannot read {path}: {error.strerror}"
        raise UsageError(message, hint="is this a run directory?") from error
    try:
        value = msgspec.json.decode(raw, type=model)
    except msgspec.DecodeError as error:
        message = f"{path} is not a {model.__name__} file: {error}"
        raise UsageError(message) from error
    version = getattr(value, "schema_version", 1)
    if version > 1:
        message = f"{path} has schema version {version}, newer than this kit knows (1)"
        raise UsageError(message, hint="use the k8s-e2e that wrote it, or a newer one")
    return value


def load_or(path: Path, model: type[T]) -> T:
    """Read ``path`` as ``model``, or return an empty one where the file is absent.

    Raises:
        UsageError: the file is there but of a newer schema version, or not what the model says.
    """
    return load(path, model) if path.exists() else model()
