"""Quantities of resources."""

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
