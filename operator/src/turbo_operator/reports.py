"""What the HTTP API says of environments: their status, and what of the builder's was not taken."""

import json
import time
from collections.abc import Mapping
from typing import Any

from turbo_operator.core.graph import Refusal
from turbo_operator.core.rollout import Progress
from turbo_operator.core.status import Subject, status
from turbo_operator.statuskeeper import Snapshot, StatusKeeper


class Reports:
    """Reports of environments as JSON. Those without an APIGraph are among them if the builder has a graph for one."""

    def __init__(self, statuses: StatusKeeper) -> None:
        self._statuses = statuses

    def one(self, environment_id: str, refused: Mapping[str, str]) -> bytes | None:
        """The report of an environment; None if there is no such environment.

        Args:
            environment_id: Which.
            refused: Environment id -> why the builder's graph of it could not be written.
        """
        return _encoded(environment_id, self._statuses.get(environment_id), refused.get(environment_id))

    def all(self, refused: Mapping[str, str]) -> list[bytes]:
        """The reports of all environments."""
        found: list[tuple[str, Snapshot | None]] = [(each.environment_id, each) for each in self._statuses.all()]
        found += [(each, None) for each in sorted(set(refused) - {environment_id for environment_id, _ in found})]
        reports = (_encoded(each, snapshot, refused.get(each)) for each, snapshot in found)
        return [report for report in reports if report is not None]


def _encoded(environment_id: str, snapshot: Snapshot | None, refused: str | None) -> bytes | None:
    if refused is None:
        return None if snapshot is None else snapshot.encoded
    report: dict[str, Any]
    if snapshot is not None:
        report = {**snapshot.report, "message": f"the builder's newest graph was not taken: {refused}"}
    else:
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        report = {
            "environmentId": environment_id,
            "rootPackage": "",
            **status(Refusal((refused,)), {}, Progress(0), Subject(0, ""), now=now),
        }
    return json.dumps(report, ensure_ascii=False, separators=(",", ":")).encode()
