"""How a log record becomes a line: the text format and the JSON format."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from datetime import datetime
from typing import Final

from shared.redaction import Redactor

LINE_LIMIT: Final = 32_768
"""How many characters of one message or traceback are written.

engine.io logs whole packets at DEBUG.
"""

CONTEXT: Final = "wegent_context"
"""Attribute of a record: what was bound to the task that logged."""

FIELDS: Final = "wegent_fields"
"""Attribute of a record: what the call added as keywords."""

_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_FIRST: Final = ("task_id", "subtask_id")
_PLAIN_WORD: Final = re.compile(r"[\w.:/@+-]+")


class TextFormatter(logging.Formatter):
    """``time - [logger] - [in path:line] - LEVEL - message key=value``, then the traceback.

    What comes from outside can neither begin a line nor move the cursor: control characters are
    escaped in messages, and the lines of a traceback are indented.

    Args:
        traces: Whether tracebacks follow; without them, every record is one line.
        program: In the place of logger and path: ``time - program - LEVEL - message``.
    """

    def __init__(
        self, redactor: Redactor, *, traces: bool = True, program: str | None = None
    ) -> None:
        super().__init__(datefmt="%Y-%m-%d %H:%M:%S")
        self._redactor = redactor
        self._traces = traces
        self._program = program

    def format(self, record: logging.LogRecord) -> str:
        fields = "".join(f" {name}={_word(value)}" for name, value in _fields(record).items())
        where = self._program or f"[{record.name}] - [in {record.pathname}:{record.lineno}]"
        line = (
            f"{self.formatTime(record, self.datefmt)} - {where} - {record.levelname} - "
            f"{_escape(str(record.msg))}{fields}"
        )
        trace = _trace(self, record) if self._traces else ""
        text = _cut(self._redactor.redact(line))
        if trace:
            rows = _cut(self._redactor.redact(trace)).split("\n")
            text += "".join(f"\n    {_escape(row)}" for row in rows)
        return text


class JsonFormatter(logging.Formatter):
    """One JSON object per line; bound fields stand beside the standard ones."""

    def __init__(self, redactor: Redactor) -> None:
        super().__init__()
        self._redactor = redactor

    def format(self, record: logging.LogRecord) -> str:
        redact = self._redactor.redact
        entry = {name: _redacted(value, redact) for name, value in _fields(record).items()}
        entry |= {
            "timestamp": datetime.fromtimestamp(record.created).astimezone().isoformat(),
            "level": record.levelname,
            "logger": record.name,
            "path": f"{record.pathname}:{record.lineno}",
            "message": _cut(redact(str(record.msg))),
        }
        if trace := _trace(self, record):
            entry["exception"] = _cut(redact(trace))
        return json.dumps(entry, ensure_ascii=False)


def _fields(record: logging.LogRecord) -> dict[str, object]:
    """What is bound to the task that logged, then what the call added."""
    bound: dict[str, object] = getattr(record, CONTEXT, {})
    # Context variables come in no order of their own.
    ordered = sorted(bound, key=lambda name: (*(name != first for first in _FIRST), name))
    return {**{name: bound[name] for name in ordered}, **getattr(record, FIELDS, {})}


def _trace(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    parts = [formatter.formatException(record.exc_info)] if record.exc_info else []
    if record.stack_info:
        parts.append(record.stack_info)
    return "\n".join(parts)


def _escape(text: str) -> str:
    return _CONTROL.sub(lambda match: ascii(match[0])[1:-1], text)


def _word(value: object) -> str:
    """*value* as one word, so that nobody can invent a field."""
    text = str(value)
    return text if _PLAIN_WORD.fullmatch(text) else _escape(json.dumps(text, ensure_ascii=False))


def _redacted(value: object, redact: Callable[[str], str]) -> object:
    return (
        value
        if value is None or isinstance(value, bool | int | float)
        else _cut(redact(str(value)))
    )


def _cut(text: str) -> str:
    if len(text) <= LINE_LIMIT:
        return text
    return f"{text[:LINE_LIMIT]}… ({len(text) - LINE_LIMIT} more characters)"
