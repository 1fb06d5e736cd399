"""Container logs as records: JSON (slog, zap), key=value or plain text, with or without a timestamp in front."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from k8s_e2e.base import clock
from k8s_e2e.base.text import one_line
from k8s_e2e.diagnosis.observed import Observed
from k8s_e2e.evidence.log_lines import parse_header

READ_MOST = 32 * 1024 * 1024  # bytes of one log file that are looked at
LINE_MOST = 64 * 1024  # bytes of one line that are parsed; the rest of it is skipped

_STAMP = re.compile(
    r"^(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)?)\s+"
    r"(?:(?:stdout|stderr) [FP] )?"  # as the container runtime writes it to the node
)
_LEVEL = re.compile(r"(?i)\b(?:level[=:]\s*\"?)?(debug|info|warn|warning|error|fatal|panic|critical)\b")
_KLOG = re.compile(r"^([IWEF])\d{4} \d\d:\d\d:\d\d")
_TROUBLE = re.compile(
    rb"(?i)error|warn|fatal|panic|critical|exception|traceback|forbidden|refused|denied|[\r\n ][EWF]\d{4} "
)
_KLOG_LEVELS = {"I": "info", "W": "warning", "E": "error", "F": "error"}
_LEVELS = {
    "debug": "debug", "trace": "debug", "info": "info", "information": "info", "notice": "info",
    "warn": "warning", "warning": "warning", "error": "error", "err": "error", "fatal": "error", "panic": "error",
    "critical": "error", "dpanic": "error",
}  # fmt: skip
_MESSAGE_KEYS = ("msg", "message", "event", "log")
_TIME_KEYS = ("time", "ts", "timestamp", "@timestamp")
_DIGITS = re.compile(
    r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"
    r"|\b[0-9a-f]{16,64}\b|\b(?:\d{1,3}\.){3}\d{1,3}(?::\d+)?\b|\d+(?:\.\d+)?"
)


class LogLine(NamedTuple):
    """One line. ``pointer`` is ``file#Lnn``; ``time`` RFC 3339 or empty; ``level`` debug, info, warning or error."""

    pointer: str
    pod: str
    container: str
    previous: bool
    time: str
    level: str
    message: str
    fields: dict[str, Any]


@dataclass
class Template:
    """Lines of one service that differ in numbers and ids only."""

    service: str
    level: str
    text: str
    count: int
    first: LogLine
    last: LogLine


class LogFile(NamedTuple):
    """One file below `k8s/logs/`."""

    path: Path
    pod: str
    container: str
    previous: bool


def files(observed: Observed) -> list[LogFile]:
    """Return the log files of a run by pod, container, previous first."""
    found = []
    for path in sorted(observed.run.pod_logs.glob("*/*.txt")):
        stem = path.name.removesuffix(".txt")
        previous = ".previous" in stem
        found.append(LogFile(path, path.parent.name, stem.split(".previous")[0], previous))
    return sorted(found, key=lambda file: (file.pod, file.container, not file.previous, file.path.name))


def read(observed: Observed, file: LogFile, *, trouble_only: bool = False) -> Iterator[LogLine]:
    """Yield the lines of one log file; ``trouble_only`` leaves out those that cannot be a warning or an error.

    At most the first `READ_MOST` bytes are read; a cut becomes a blind spot.
    """
    name = observed.relative(file.path)
    try:
        with file.path.open("rb") as stream:
            for number, raw in enumerate(stream, 1):
                if raw.startswith(b"==> ") and (
                    run := parse_header(raw[:LINE_MOST].decode("utf-8", "replace").rstrip())
                ):
                    if run.missed:
                        observed.blind(f"{name}#L{number}", f"what run {run.number} of {run.container} said was missed")
                elif not trouble_only or _TROUBLE.search(raw):
                    yield parse(raw, f"{name}#L{number}", file)
                if stream.tell() > READ_MOST:
                    observed.blind(name, f"only its first {READ_MOST >> 20} MiB were looked at")
                    return
    except OSError as error:
        observed.blind(name, f"unreadable ({error.strerror})")


def parse(raw: bytes, pointer: str, file: LogFile) -> LogLine:
    """Read one line in whichever form it has; what is not understood stays as its message."""
    text = raw[:LINE_MOST].decode("utf-8", "replace").rstrip("\r\n")
    time = ""
    while stamp := _STAMP.match(text):  # the runtime's, then often the program's own
        time = time or _normal(stamp[1])
        text = text[stamp.end() :]
    level, message, fields = "", text, {}
    if text.lstrip().startswith("{"):
        fields = _json(text)
    if fields:
        message = next((str(fields[key]) for key in _MESSAGE_KEYS if fields.get(key)), text)
        level = _LEVELS.get(str(fields.get("level") or fields.get("severity") or "").lower(), "info")
        time = time or next((_normal(fields[key]) for key in _TIME_KEYS if key in fields), "")
    elif klog := _KLOG.match(text):
        level = _KLOG_LEVELS[klog[1]]
    elif found := _LEVEL.search(text[:200]):
        level = _LEVELS[found[1].lower()]
    elif re.match(r"\w*(Error|Exception)\b|Traceback", text):
        level = "error"
    return LogLine(pointer, file.pod, file.container, file.previous, time, level, message, fields)


def templates(observed: Observed, service_of: dict[str, str]) -> list[Template]:
    """Return the warnings and errors of all logs, alike ones folded, errors first, then by count.

    ``service_of`` maps a pod's name to the service it belongs to.
    """
    found: dict[tuple[str, str, str], Template] = {}
    for file in files(observed):
        service = service_of.get(file.pod, file.pod)
        for line in read(observed, file, trouble_only=True):
            if line.level not in ("error", "warning"):
                continue
            text = mask(one_line(describe(line), 240))
            known = found.get((service, line.level, text))
            if known:
                known.count += 1
                known.last = line
            else:
                found[service, line.level, text] = Template(service, line.level, text, 1, line, line)
    return sorted(found.values(), key=lambda one: (one.level != "error", -one.count, one.service, one.text))


def describe(line: LogLine) -> str:
    """Return a line's message with the field that says what went wrong, where it has one."""
    extra = next((str(line.fields[key]) for key in ("error", "err", "exception", "detail") if line.fields.get(key)), "")
    return f"{line.message}: {extra}" if extra and extra not in line.message else line.message


def mask(text: str) -> str:
    """Replace ids, addresses and numbers, so that lines which differ in them only become equal."""
    return _DIGITS.sub(lambda match: "<id>" if len(match[0]) >= 16 and "." not in match[0] else "<n>", text)  # noqa: PLR2004


def _json(text: str) -> dict[str, Any]:
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _normal(stamp: Any) -> str:
    try:
        if isinstance(stamp, int | float):
            return clock.rfc3339(float(stamp))
        return clock.normal(str(stamp).replace(",", "."))
    except (ValueError, OverflowError, OSError):
        return ""
