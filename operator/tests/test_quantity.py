"""Quantities of resources."""

from decimal import Decimal

import pytest

from turbo_operator.core.quantity import parse_quantity, same_quantity


def test_quantities_compare_by_value() -> None:
    """0.5 is 500m and 1Gi is 1024Mi; a word is refused."""
    assert same_quantity("0.5", "500m")
    assert same_quantity("1Gi", "1024Mi")
    assert same_quantity("1e3", 1000)
    assert not same_quantity("1G", "1Gi")
    assert not same_quantity("x", "x")
    with pytest.raises(ValueError, match="not a quantity"):
        parse_quantity("-1")


_VALUES = {
    "0": "0",
    "1": "1",
    "+1.5": "1.5",
    ".5": "0.5",
    "5.": "5",
    "1n": "0.000000001",
    "1u": "0.000001",
    "100m": "0.1",
    "1k": "1000",
    "1M": "1000000",
    "1G": "1000000000",
    "1T": "1000000000000",
    "1P": "1000000000000000",
    "1E": "1000000000000000000",
    "1Ki": "1024",
    "1.5Mi": "1572864",
    "1Gi": "1073741824",
    "1Ti": "1099511627776",
    "1Pi": "1125899906842624",
    "1Ei": "1152921504606846976",
    "12e2": "1200",
    "12E-1": "1.2",
    "1e+3": "1000",
}


@pytest.mark.parametrize(("text", "value"), _VALUES.items())
def test_each_suffix_has_its_value(text: str, value: str) -> None:
    """Decimal, binary and exponential forms are what Kubernetes makes of them."""
    assert parse_quantity(text) == Decimal(value)


@pytest.mark.parametrize("text", ["", "-1", "1 Gi", "1K", "1mi", "Gi", ".", "1e1234", "1e", "0x1"])
def test_what_is_no_quantity_is_refused_by_its_name(text: str) -> None:
    """Text that Kubernetes would refuse is refused, and shown."""
    with pytest.raises(ValueError, match="quantity") as caught:
        parse_quantity(text)
    assert str(caught.value) == f"{text!r} is not a quantity of 0 or more, such as 100m, 0.5 or 64Mi"
    assert not same_quantity(text, text)
    assert not same_quantity("1", text)
