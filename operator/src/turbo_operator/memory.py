"""What the operator remembers of one graph between reconciles: what failed, when to try again, what was told.

All of it can be lost: it saves requests and repetitions, nothing else.
"""

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from turbo_operator.applier import Result
from turbo_operator.core.canonical import digest
from turbo_operator.core.desired import Object, ObjectKey, key_of
from turbo_operator.core.fields import differences
from turbo_operator.core.plan import Action
from turbo_operator.core.rollout import Progress

_REPAIRS, _REPAIRS_WITHIN_S = 5, 5.0
"""The same is written to an object at most that often in that time: somebody may undo every write of it."""
_UNKEPT_RETRY_S = 300.0
"""What the API server did not keep is written again that seldom: whatever changed it may be gone by then."""


@dataclass(slots=True)
class _Trouble:
    """A write that failed: how often, which one, when it may be tried again."""

    tries: int
    write: str
    retry_at: float


class GraphMemory:
    """The memory of one APIGraph object. Thread-safe.

    Times are monotonic seconds, handed in by the caller.
    """

    def __init__(self, uid: str, environment_id: str) -> None:
        self.uid = uid
        self.environment_id = environment_id
        self._lock = threading.Lock()
        self._generation = 0
        self._pending: dict[ObjectKey, str] = {}
        self._failures: dict[ObjectKey, str] = {}
        self._conflicts: dict[ObjectKey, str] = {}
        self._judged: dict[ObjectKey, int] = {}
        self._troubles: dict[ObjectKey, _Trouble] = {}
        self._unread: dict[ObjectKey, Action] = {}
        self._unkept: dict[ObjectKey, tuple[str, frozenset[str], float]] = {}
        self._repairs: dict[ObjectKey, tuple[str, tuple[float, ...]]] = {}
        self._told: frozenset[tuple[str, ...]] = frozenset()
        self._traced = 0

    def progress(self) -> Progress:
        """A copy of what the status needs."""
        with self._lock:
            return Progress(
                self._generation,
                dict(self._pending),
                dict(self._failures),
                dict(self._conflicts),
                dict(self._judged),
            )

    @property
    def generation(self) -> int:
        """Of the spec that was planned or refused last, 0 before the first."""
        return self._generation

    def conflicts(self) -> set[ObjectKey]:
        """Names that the last plan found taken by others."""
        with self._lock:
            return set(self._conflicts)

    def take_refusal(self, generation: int) -> None:
        """The graph as a whole cannot be used: nothing of it is planned."""
        with self._lock:
            self._generation = generation
            self._pending, self._failures, self._conflicts, self._judged = {}, {}, {}, {}

    def take_plan(
        self,
        generation: int,
        planned: tuple[Action, ...],
        wanted: Iterable[Object],
        observed: Mapping[ObjectKey, Object],
        now: float,
    ) -> list[Action]:
        """Remember a plan; gives the part of it that may be written now."""
        writes = {action.key: action for action in planned if action.writes}
        with self._lock:
            self._generation = generation
            self._conflicts = {action.key: action.reason for action in planned if action.verb == "Conflict"}
            self._troubles = {key: trouble for key, trouble in self._troubles.items() if key in writes}
            # What failed stays failed until the next try tells otherwise.
            self._failures = {key: message for key, message in self._failures.items() if key in writes}
            self._pending = {key: f"{action.verb}: {action.reason}" for key, action in writes.items()}
            kept = {key_of(obj) for obj in wanted}
            self._repairs = {key: repairs for key, repairs in self._repairs.items() if key in kept}
            self._unkept = {key: unkept for key, unkept in self._unkept.items() if key in kept}
            self._judged = {
                key: observed[key]["metadata"].get("generation", 0)
                for key in kept
                if key[0] == "Deployment" and key in observed and key not in writes
            }
            return [action for action in writes.values() if self._is_due(action, now)]

    def _is_due(self, action: Action, now: float) -> bool:
        if not any(action.key in known for known in (self._unkept, self._repairs, self._troubles)):
            return True  # spares large new graphs the digest
        body = digest(action.body)
        unkept = self._unkept.get(action.key)
        again = unkept is not None and (unkept[0] == body or _replaces(action))
        if again and unkept is not None and set(action.fields) <= unkept[1] and now < unkept[2]:
            self._failures[action.key] = _not_kept(unkept[1])
            return False
        repaired, times = self._repairs.get(action.key, ("", ()))
        free_at = times[0] + _REPAIRS_WITHIN_S if repaired == body and len(times) == _REPAIRS else now
        if now < free_at:
            self._troubles[action.key] = _Trouble(0, _identity(action, body), free_at)
            self._failures[action.key] = f"written {_REPAIRS} times in {_REPAIRS_WITHIN_S:.0f} s: somebody undoes it"
            return False
        trouble = self._troubles.get(action.key)
        return trouble is None or trouble.write != _identity(action, body) or trouble.retry_at <= now

    def take_result(self, action: Action, result: Result, now: float) -> None:
        """Remember how a write ended."""
        key, body = action.key, digest(action.body)
        with self._lock:
            if result.outcome != "unknown" and result.sent:
                self._unread.pop(key, None)  # an answer to a later write: what became of the earlier one is past
            if result.outcome == "ok":
                self._take_success(action, result.obj, body, now)
                return
            before = self._troubles.get(key)
            write = _identity(action, body)
            tries = before.tries + 1 if before is not None and before.write == write else 1
            self._troubles[key] = _Trouble(tries, write, now + result.retry_in_s(tries))
            if result.outcome == "conflict":
                self._pending[key] = f"planned anew: {result.message}"
                return
            self._failures[key] = result.message
            if result.outcome == "unknown":
                self._unread[key] = action

    def _take_success(self, action: Action, obj: Object | None, body: str, now: float) -> None:
        key = action.key
        self._pending.pop(key, None)
        self._failures.pop(key, None)
        self._troubles.pop(key, None)
        self._unkept.pop(key, None)
        if obj is None or action.body is None:
            return
        repaired, times = self._repairs.get(key, ("", ()))
        self._repairs[key] = body, (*(times if repaired == body else ()), now)[-_REPAIRS:]
        left = frozenset(differences(action.body, obj))
        if left:
            # Written again at once it would come out the same: a webhook or the API server itself changes it.
            self._unkept[key] = (body, left, now + _UNKEPT_RETRY_S)
            self._failures[key] = _not_kept(left)
        elif action.kind == "Deployment":
            self._judged[key] = obj["metadata"].get("generation", 0)

    def hold(self, action: Action, reason: str) -> None:
        """An action has to wait for something else: its own failure, if it had one, is no reason to come again."""
        with self._lock:
            self._pending[action.key] = reason
            self._troubles.pop(action.key, None)

    def unsettled(self, key: ObjectKey) -> bool:
        """Whether an object is not, or not surely, what the plan wants."""
        with self._lock:
            return key in self._pending or key in self._failures or key in self._conflicts

    def unread(self) -> list[Action]:
        """Writes whose outcome is unknown."""
        with self._lock:
            return list(self._unread.values())

    def was_read(self, action: Action) -> None:
        """The outcome of an unknown write is known now."""
        with self._lock:
            self._unread.pop(action.key, None)

    def news(self, planned: tuple[Action, ...]) -> list[Action]:
        """Conflicts and refusals of a plan that the plan before did not have."""
        notes = {(a.verb, a.kind, a.name, a.reason): a for a in planned if not a.writes}
        with self._lock:
            known, self._told = self._told, frozenset(notes)
        return [action for note, action in notes.items() if note not in known]

    def first_work(self, generation: int) -> bool:
        """Whether this is the first work on that generation."""
        with self._lock:
            before, self._traced = self._traced, generation
            return before != generation

    def retry_in_s(self, now: float) -> float | None:
        """Seconds until the next write may be tried again; None if nothing failed."""
        with self._lock:
            return max(0.0, min(t.retry_at for t in self._troubles.values()) - now) if self._troubles else None


def _replaces(action: Action) -> bool:
    """Whether a deletion is the first half of a replacement: only then it names fields."""
    return action.verb == "Delete" and bool(action.fields)


def _identity(action: Action, body: str) -> str:
    """What makes a write another one, which does not wait for the failure of the one before; `body` is its digest."""
    return f"{action.verb} {action.uid} {body}"


def _not_kept(fields: frozenset[str]) -> str:
    return f"the API server does not keep {', '.join(sorted(fields))}"
