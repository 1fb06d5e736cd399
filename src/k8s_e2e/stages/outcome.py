"""How a stage's end gets into `run.json`, whoever ran it: a notebook, a script, or a person."""

import contextlib
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from k8s_e2e.base import clock, files, journal, process
from k8s_e2e.base.errors import KitError
from k8s_e2e.model import io
from k8s_e2e.model.layout import RunDir
from k8s_e2e.model.profile import Profile
from k8s_e2e.model.run import RunRecord, StageOutcome


def begin(run: RunDir, profile: Profile, parameters: dict[str, Any]) -> RunRecord:
    """Write the first `run.json` of a run: its id, commit, profile and parameters."""
    run_id = clock.now()[:19].replace("-", "").replace(":", "").replace("T", "-") + "-" + secrets.token_hex(2)
    run_record = io.load_or(run.run_json, RunRecord)
    run_record.run_id = run_id
    run_record.attempt = int(os.environ.get("GITHUB_RUN_ATTEMPT", "1"))
    run_record.commit = _commit(profile.root)
    run_record.profile = profile.name
    run_record.namespace = profile.namespace
    run_record.unconfigured = profile.unconfigured
    run_record.started = clock.now()
    run_record.parameters = parameters
    files.write_json(run.run_json, run_record)
    return run_record


def _commit(root: Path) -> str:
    if os.environ.get("GITHUB_SHA"):
        return os.environ["GITHUB_SHA"]
    try:
        done = process.run(["git", "-C", root, "rev-parse", "HEAD"], timeout_s=5, check=False)
    except KitError:
        return ""
    return done.stdout.strip() if done.code == 0 else ""


def record(run: RunDir, outcome: StageOutcome) -> None:
    """Write one stage's outcome into `run.json`, replacing an earlier one of the same stage."""
    run_record = io.load_or(run.run_json, RunRecord)
    run_record.put(outcome)
    files.write_json(run.run_json, run_record)


@contextlib.contextmanager
def recorded(run: RunDir, name: str) -> Iterator[None]:
    """Open the log and record how the block ended; errors pass through."""
    started, begin = clock.now(), time.monotonic()

    def put(status: str, exit_code: int = 0, error: str = "", hint: str = "") -> None:
        duration = round(time.monotonic() - begin, 6)
        outcome = StageOutcome(
            name=name,
            status=status,  # type: ignore[arg-type] # one of StageStatus, see the calls below
            started=started,
            duration_s=duration,
            work_s=duration,
            exit_code=exit_code,
            error=error,
            hint=hint,
        )
        record(run, outcome)

    with journal.opened(run.kit_log):
        try:
            yield
        except KitError as error:
            put("failed", error.exit_code, error.message, error.hint)
            raise
        except KeyboardInterrupt:
            put("interrupted", 130, "stopped by a signal")
            raise
        except Exception as error:
            put("failed", 1, f"internal error: {type(error).__name__}: {error}")
            raise
        put("passed")
