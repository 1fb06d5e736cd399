"""Logs: one JSON object a line on stdout, with the trace and span the line belongs to."""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

from opentelemetry import trace

SERVICE = "operator"
ACTIONS_LOGGER = "turbo_operator.actions.finished"
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}


def timestamp(seconds: float) -> str:
    """RFC 3339 in UTC with microseconds."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class JsonFormatter(logging.Formatter):
    """Renders `time, level, msg, service, trace_id, span_id` and every `extra` field."""

    def format(self, record: logging.LogRecord) -> str:
        """One line of JSON; a value that is not JSON is written as its `str`, half a surrogate pair as `?`."""
        line: dict[str, Any] = {
            "time": timestamp(record.created),
            "level": record.levelname.lower(),
            "msg": record.getMessage(),
            "service": SERVICE,
            "logger": record.name,
        }
        context = trace.get_current_span().get_span_context()
        if context.is_valid:
            line["trace_id"] = trace.format_trace_id(context.trace_id)
            line["span_id"] = trace.format_span_id(context.span_id)
        line |= {key: value for key, value in vars(record).items() if key not in _STANDARD}
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False).encode(errors="replace").decode()


def configure(level: str) -> None:
    """Send every logger of the process to stdout as JSON lines; finished actions are told at every level."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.getLogger(ACTIONS_LOGGER).setLevel(logging.INFO)
    for chatty in ("urllib3", "asyncio", "kubernetes", "uvicorn"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
