"""How log messages are written: one line an event, for people or as JSON, with their facts as ``key=value``.

Rooms log through ``logging.getLogger(__name__)`` and give facts as ``extra={...}``. Nothing is logged for each token.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any, Literal, TextIO

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}
"""Attributes that every record has (``color_message`` is uvicorn's): all else was given as ``extra``."""

_THIRD_PARTY_LEVELS = {"httpx": logging.WARNING, "httpcore": logging.WARNING, "alembic": logging.WARNING}
"""Libraries that tell each request or step at ``info``."""


def set_up_logging(
    level: str = "info", form: Literal["text", "json"] = "text", stream: TextIO | None = None
) -> logging.Handler:
    """Send all messages of ``level`` and above to ``stream`` (standard error by default), replacing earlier handlers.

    Returns the handler, for whoever must flush or remove it.
    """
    handler = logging.StreamHandler(stream if stream is not None else sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    root = logging.getLogger()
    for old in [*root.handlers]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())
    for name, least in _THIRD_PARTY_LEVELS.items():
        logging.getLogger(name).setLevel(max(least, root.level))
    return handler


class TextFormatter(logging.Formatter):
    """``2026-01-31 12:00:00.123 INFO    hub: fetched the header repo=org/name s=0.8``; tracebacks follow, indented."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of one record, without line breaks in message and facts."""
        moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.created))
        facts = "".join(f" {key}={_plain(value)}" for key, value in _facts(record).items())
        head = f"{moment}.{int(record.msecs):03d} {record.levelname:<7} {_room(record)}"
        line = f"{head}: {_one_line(record.getMessage())}{facts}"
        trace = _traceback(self, record)
        return line if trace is None else line + "".join(f"\n    {part}" for part in trace.splitlines())


class JsonFormatter(logging.Formatter):
    """One JSON object a line: ``time`` (ISO 8601, UTC), ``level``, ``room``, ``message``, facts, ``traceback``."""

    def format(self, record: logging.LogRecord) -> str:
        """The object of one record; values that JSON does not know become text."""
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        entry: dict[str, Any] = dict(_facts(record)) | {
            "time": f"{moment}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "room": _room(record),
            "message": record.getMessage(),
        }
        trace = _traceback(self, record)
        if trace is not None:
            entry["traceback"] = trace
        return json.dumps(entry, default=str)


def _facts(record: logging.LogRecord) -> dict[str, Any]:
    return {key: value for key, value in vars(record).items() if key not in _STANDARD}


def _room(record: logging.LogRecord) -> str:
    """``hub`` for ``lilliput.hub.library``; the first part of a foreign logger's name."""
    parts = record.name.split(".")
    return parts[1] if parts[0] == "lilliput" and len(parts) > 1 else parts[0]


def _plain(value: object) -> str:
    """A value as one word, in JSON quotes where it has to be."""
    text = f"{value:.3g}" if isinstance(value, float) else str(value)
    needs_quotes = not text or not text.isprintable() or any(mark in text for mark in ' "=')
    return json.dumps(text, ensure_ascii=False) if needs_quotes else text


def _one_line(text: str) -> str:
    """The text without line breaks, and without what else could steer a terminal."""
    if text.isprintable():
        return text
    return " ".join("".join(one if one.isprintable() else " " for one in text).split())


def _traceback(formatter: logging.Formatter, record: logging.LogRecord) -> str | None:
    parts = [formatter.formatException(record.exc_info)] if record.exc_info and record.exc_info[0] else []
    if record.stack_info:
        parts.append(formatter.formatStack(record.stack_info))
    return "\n".join(parts) or None
