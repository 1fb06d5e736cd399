"""Percentiles by nearest rank: always a value that was measured."""

import math


def nearest_rank(ordered: list[float], percent: float) -> float:
    """Return the ``percent`` percentile of ``ordered`` (ascending, not empty)."""
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]
