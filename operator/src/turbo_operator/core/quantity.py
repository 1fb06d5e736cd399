"""Kubernetes quantities: checked before they are sent, compared by value and not by spelling.

Source of the format: https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
"""

import re
from decimal import Decimal

_QUANTITY = re.compile(
    r"(?P<number>\+?(?:\d+\.?\d*|\.\d+))(?P<suffix>Ki|Mi|Gi|Ti|Pi|Ei|n|u|m|k|M|G|T|P|E|[eE][+-]?\d{1,3})?",
    re.ASCII,
)
_SUFFIXES = {
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    "k": Decimal(10**3),
    "M": Decimal(10**6),
    "G": Decimal(10**9),
    "T": Decimal(10**12),
    "P": Decimal(10**15),
    "E": Decimal(10**18),
    "Ki": Decimal(2**10),
    "Mi": Decimal(2**20),
    "Gi": Decimal(2**30),
    "Ti": Decimal(2**40),
    "Pi": Decimal(2**50),
    "Ei": Decimal(2**60),
}


def parse_quantity(text: str) -> Decimal:
    """The value of a non-negative quantity.

    Raises:
        ValueError: `text` is not one.
    """
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a quantity of 0 or more, such as 100m, 0.5 or 64Mi")
    number, suffix = Decimal(match["number"]), match["suffix"]
    if not suffix:
        return number
    if suffix in _SUFFIXES:
        return number * _SUFFIXES[suffix]
    return number.scaleb(int(suffix[1:]))


def same_quantity(left: object, right: object) -> bool:
    """Whether two quantities, strings or numbers, have the same value."""
    try:
        return parse_quantity(str(left)) == parse_quantity(str(right))
    except ValueError:
        return False
