"""How a stage's end gets into `run.json`, whoever ran it: a notebook, a script, or a person."""

import contextlib
import time
from collections.abc import Iterator

from k8s_e2e.base import clock, files, journal
from k8s_e2e.base.errors import KitError
from k8s_e2e.model import io
from k8s_e2e.model.layout import RunDir
from k8s_e2e.model.run import RunRecord, StageOutcome


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
