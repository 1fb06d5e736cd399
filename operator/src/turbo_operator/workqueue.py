"""Queues: of keys to look at again, and of writes taken in turn from many graphs."""

import heapq
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from turbo_operator import metrics

T = TypeVar("T")
_SLACK = 8


class WorkQueue:
    """Keys, each at most once in the queue and at most once in work.

    A key that is added while it is worked on comes again afterwards: what changed meanwhile is not missed.
    """

    def __init__(self, name: str, *, backoff_s: float = 0.8, longest_backoff_s: float = 60.0) -> None:
        self._backoff_s = backoff_s
        self._longest_backoff_s = longest_backoff_s
        self._condition = threading.Condition()
        self._due: dict[str, float] = {}
        self._heap: list[tuple[float, str]] = []
        self._working: set[str] = set()
        self._again: dict[str, float] = {}
        self._failures: dict[str, int] = {}
        self._stopped = False
        metrics.QUEUE_DEPTH.labels(queue=name).set_function(self.depth)

    def add(self, key: str, delay_s: float = 0.0) -> None:
        """Work on `key` in `delay_s` seconds, or earlier if it is due earlier."""
        due = time.monotonic() + delay_s
        with self._condition:
            if key in self._working:
                self._again[key] = min(due, self._again.get(key, due))
            elif due < self._due.get(key, float("inf")):
                self._push(key, due)

    def _push(self, key: str, due: float) -> None:
        self._due[key] = due
        heapq.heappush(self._heap, (due, key))
        if len(self._heap) > _SLACK * (len(self._due) + _SLACK):
            self._heap = [(at, each) for each, at in self._due.items()]  # without what was superseded
            heapq.heapify(self._heap)
        self._condition.notify()

    def get(self) -> str | None:
        """The next key that is due; None once the queue is stopped. Call `done` with it."""
        with self._condition:
            while not self._stopped:
                now = time.monotonic()
                while self._heap and self._due.get(self._heap[0][1]) != self._heap[0][0]:
                    heapq.heappop(self._heap)  # superseded by an earlier one
                if self._heap and self._heap[0][0] <= now:
                    _, key = heapq.heappop(self._heap)
                    del self._due[key]
                    self._working.add(key)
                    return key
                self._condition.wait(self._heap[0][0] - now if self._heap else None)
            return None

    def done(self, key: str) -> None:
        """`key` is worked off; it comes again if it was added meanwhile."""
        with self._condition:
            self._working.discard(key)
            due = self._again.pop(key, None)
            if due is not None:
                self._push(key, due)

    def failed(self, key: str) -> float:
        """Work on `key` again after its backoff, which doubles each time; returns the wait in seconds."""
        with self._condition:
            failures = self._failures[key] = self._failures.get(key, 0) + 1
        delay: float = min(self._backoff_s * 2 ** min(failures - 1, 16), self._longest_backoff_s)
        self.add(key, delay)
        return delay

    def succeeded(self, key: str) -> None:
        """The next failure of `key` is a first one again."""
        with self._condition:
            self._failures.pop(key, None)

    def oldest_due_s(self) -> float:
        """How long the most overdue key has been waiting, in seconds; 0 if none is due."""
        with self._condition:
            return max((time.monotonic() - due for due in self._due.values()), default=0.0)

    def depth(self) -> int:
        """How many keys are due; those whose time has not come do not count."""
        now = time.monotonic()
        with self._condition:
            return sum(due <= now for due in self._due.values())

    def stop(self) -> None:
        """Give out no more keys."""
        with self._condition:
            self._stopped = True
            self._condition.notify_all()


class FairPool:
    """Threads that carry out tasks of many graphs in turn, so that a large one never keeps a small one waiting."""

    def __init__(self, threads: int, name: str) -> None:
        self._condition = threading.Condition()
        self._tasks: OrderedDict[str, deque[tuple[Future[Any], Callable[[], Any]]]] = OrderedDict()
        self._stopped = False
        self.threads = [threading.Thread(target=self._work, name=f"{name}-{n}", daemon=True) for n in range(threads)]
        for thread in self.threads:
            thread.start()

    def submit(self, group: str, task: Callable[[], T]) -> "Future[T]":
        """Carry out `task` after those submitted earlier for the same group; cancelled if the pool is stopped first."""
        future: Future[T] = Future()
        with self._condition:
            if self._stopped:
                future.cancel()
                return future
            self._tasks.setdefault(group, deque()).append((future, task))
            self._condition.notify()
        return future

    def _work(self) -> None:
        while True:
            with self._condition:
                while not self._tasks and not self._stopped:
                    self._condition.wait()
                if self._stopped:
                    return
                group, tasks = self._tasks.popitem(last=False)
                future, task = tasks.popleft()
                if tasks:
                    self._tasks[group] = tasks  # to the end of the line
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(task())
            except Exception as error:  # noqa: BLE001 - handed to whoever waits
                future.set_exception(error)

    def stop(self, timeout_s: float) -> bool:
        """Start no more tasks and wait for those in work; False if some are not done in time."""
        with self._condition:
            self._stopped = True
            for tasks in self._tasks.values():
                for future, _ in tasks:
                    future.cancel()
            self._tasks.clear()
            self._condition.notify_all()
        deadline = time.monotonic() + timeout_s
        for thread in self.threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self.threads)
