"""What /healthz and /readyz tell: whether the operator's threads work, and whether its caches are fed."""

import threading
from collections.abc import Callable, Iterable, Mapping

from turbo_operator.kube.listwatch import ListWatch
from turbo_operator.store import Store

_SILENT_S = 75.0


class Health:
    """Looks at the operator and changes nothing.

    Args:
        stopping: Set when the operator stops: threads end then as they should.
        stores: The caches.
        watches: What feeds them; none in dev mode.
        idle: Says why the loop makes no progress, None if it does.
    """

    def __init__(
        self,
        stopping: threading.Event,
        stores: Mapping[str, Store],
        watches: Iterable[ListWatch],
        idle: Callable[[], str | None],
    ) -> None:
        self._stopping = stopping
        self._stores = stores
        self._watches = tuple(watches)
        self._idle = idle
        self._threads: list[threading.Thread] = []
        self.never_begun: str | None = None
        """Why the loop could not even begin; None where it did or still may."""

    def expect(self, *threads: threading.Thread) -> None:
        """These were started, and last as long as the operator."""
        self._threads += threads

    def stuck(self) -> str | None:
        """Why the loop does not work any more; None if it does. An API server that is away is no reason."""
        gone = [thread.name for thread in self._threads if not thread.is_alive()]
        if self._stopping.is_set():  # asked last: threads end as soon as it is
            return None
        if self.never_begun is not None:
            return f"the loop could not begin: {self.never_begun}"
        return f"threads are gone: {', '.join(gone)}" if gone else self._idle()

    def checks(self) -> dict[str, str]:
        """Readiness by name: `ok` or what is wrong."""
        checks = {}
        if self._stopping.is_set():
            checks["operator"] = "is stopping"
        for kind, store in self._stores.items():
            checks[f"cache {kind}"] = "ok" if store.synced.is_set() else "not yet synced"
        for watch in self._watches:
            silent_s = watch.silent_s()
            if watch.last_error is not None:
                checks[watch.name] = watch.last_error
            elif silent_s > _SILENT_S:
                checks[watch.name] = f"nothing heard for {silent_s:.0f} s"
            else:
                checks[watch.name] = "ok"
        return checks
