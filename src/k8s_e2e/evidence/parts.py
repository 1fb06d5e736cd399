"""Doing one part of a collection: its time and outcome are kept, its failure stops nothing else."""

import logging
import threading
import time
from collections.abc import Callable

from k8s_e2e.base.errors import KitError
from k8s_e2e.model.evidence import Part
from k8s_e2e.platform.kube import ApiError

_DENIED = (401, 403)
log = logging.getLogger(__name__)


class Parts:
    """The parts done so far, in the order of their names. Thread-safe."""

    def __init__(self) -> None:
        self._done: list[Part] = []
        self._lock = threading.Lock()

    def do(self, name: str, work: Callable[[], int | None]) -> bool:
        """Do ``work``, which returns its rows; returns whether it succeeded."""
        began = time.monotonic()
        try:
            rows = work()
        except ApiError as error:
            self.add(name, "denied" if error.status in _DENIED else "failed", began, error=str(error))
        except (KitError, OSError) as error:
            self.add(name, "failed", began, error=str(error))
        except Exception as error:  # one part's defect must not cost the evidence of all others
            log.exception("part %s", name)
            self.add(name, "failed", began, error=f"{type(error).__name__}: {error}")
        else:
            self.add(name, "ok", began, rows=rows)
            return True
        return False

    def add(self, name: str, status: str, began: float, *, rows: int | None = None, error: str = "") -> None:
        """Record one part that began at ``began`` (monotonic seconds) and is over now."""
        duration_s = round(time.monotonic() - began, 6)
        part = Part(name=name, status=status, duration_s=duration_s, rows=rows, error=error)  # type: ignore[arg-type]
        self.take(part)

    def take(self, part: Part) -> None:
        """Record a part that was done elsewhere."""
        with self._lock:
            self._done.append(part)

    def all(self) -> list[Part]:
        """Return what was done, by name."""
        with self._lock:
            return sorted(self._done, key=lambda part: part.name)
