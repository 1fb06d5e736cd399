"""Pagination by opaque tokens: a token is the key of the last item of the page before."""

import base64
import binascii
import json
from typing import Annotated, Final

import msgspec

from turbo_services.common.errors import BadRequest

PageSize = Annotated[int, msgspec.Meta(ge=1, le=500)]
DEFAULT_PAGE_SIZE: Final = 100


def encode(key: list[str | int]) -> str:
    """The token of the page after the item with ``key``."""
    return base64.urlsafe_b64encode(json.dumps(key, separators=(",", ":")).encode()).decode().rstrip("=")


def decode(token: str, kinds: tuple[type, ...]) -> list[str | int]:
    """The key in ``token``, whose parts have ``kinds``.

    Raises:
        BadRequest: the token was not made by `encode` for such a list.
    """
    try:
        key = json.loads(base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True))
    except (ValueError, binascii.Error, UnicodeError):
        key = None
    if not isinstance(key, list) or tuple(map(type, key)) != kinds:
        raise BadRequest(f"page_token {token[:80]!r} is not one this list gave out")
    return key
