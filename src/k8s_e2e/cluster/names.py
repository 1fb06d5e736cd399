"""What a cluster that the kit makes may be called: the name becomes a directory, a host name and part of others."""

import re

from k8s_e2e.base.errors import UsageError

_LIMIT = 63
_KIND_LIMIT = 50  # kind appends the node's role, and a host name ends at 64


def check(name: str) -> str:
    """Return ``name`` if a cluster may be called so.

    Raises:
        UsageError: it may not.
    """
    if not name or len(name) > _LIMIT or not all(char.isalnum() or char == "-" for char in name):
        raise UsageError(f"{name!r} is no name for a cluster", hint=f"letters, digits and -, at most {_LIMIT}")
    return name


def check_kind(name: str) -> str:
    """Return ``name`` if a kind cluster may be called so: kind's own rule, with what it only warns of.

    Raises:
        UsageError: it may not.
    """
    if len(name) > _KIND_LIMIT or not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", name):
        hint = f"lower-case letters, digits, - and ., at most {_KIND_LIMIT}"
        raise UsageError(f"{name!r} is no name for a kind cluster", hint=hint)
    return name
