"""Many pairs of a fault and what it meets, at the same time: most of each is waiting."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from turbo_operator.kube.client import KubeClient

Cell = tuple[str, str]
_READ_TIMEOUT_S = 3.0


def ride_out_all(monkeypatch: pytest.MonkeyPatch, cells: Iterable[Cell], ride_out: Callable[[Cell], None]) -> None:
    """Ride each cell out with a short read timeout; after a first failure the rest is left out."""
    defaults: dict[str, Any] = KubeClient.request.__kwdefaults__ or {}
    assert "read_timeout_s" in defaults
    monkeypatch.setitem(defaults, "read_timeout_s", _READ_TIMEOUT_S)

    def ride(cell: Cell) -> None:
        try:
            ride_out(cell)
        except Exception as error:
            error.add_note(f"in the cell {cell}")
            raise

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(ride, cells))  # cancels what has not begun when it raises
