"""Logs: structlog in front, the standard library behind, one format for every logger.

A record is handed to a queue where it is made; a thread of its own formats, redacts and writes it,
so that neither the disk nor a long traceback ever holds the event loop.
"""

from __future__ import annotations

import logging
import queue
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, Final, Literal

import structlog

from shared.log_format import FIELDS, JsonFormatter, TextFormatter
from shared.log_writer import (
    QUEUE_LIMIT,
    LogFile,
    QueueHandler,
    QueueWriter,
    RotatingFile,
    complain,
)
from shared.redaction import Redactor

__all__ = ["LogFile", "LogFormat", "Logs", "configure_logging", "get_logger"]

LogFormat = Literal["text", "json"]

CHATTY: Final = (
    "socketio", "socketio.client", "socketio.server",
    "aiohttp.access", "alembic", "mcp", "uvicorn.access",
)  # fmt: skip
"""Loggers of libraries whose INFO is noise."""

TELLTALE: Final = (
    "engineio", "engineio.client", "engineio.server",
    "aiosqlite", "sse_starlette.sse", "uvicorn.error",
)  # fmt: skip
"""Loggers of libraries whose INFO or DEBUG shows whole messages: prompts, and secrets of requests
that no redactor has been told. Their warnings are all that is ever heard of them.

socketio and engineio add a handler of their own, past the redaction, to each of their loggers that
has no level when the first client or server is made: that is why these are named one by one.
"""

_PASSED_ON: Final = ("exc_info", "stack_info", "stacklevel")

_standard_logger = structlog.stdlib.LoggerFactory()
"""Makes standard loggers that do not take structlog's own frames for the caller."""


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """Return the logger *name*; works before, after and without :func:`configure_logging`."""
    logger: structlog.stdlib.BoundLogger = structlog.wrap_logger(
        _standard_logger(name),
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            _to_record,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        context_class=dict,
    )
    return logger


class Logs:
    """What :func:`configure_logging` has set up; close it to flush and to undo everything."""

    def __init__(
        self, handler: QueueHandler, writer: QueueWriter, levels: Mapping[str, int]
    ) -> None:
        self._handler = handler
        self._writer = writer
        self._levels = levels

    def close(self) -> None:
        """Write what is waiting, for at most two seconds, and take the handlers away."""
        logging.captureWarnings(False)
        logging.getLogger().removeHandler(self._handler)
        self._writer.stop()
        for name, level in self._levels.items():
            logging.getLogger(name).setLevel(level)


def configure_logging(
    *,
    file: LogFile | None,
    level: str,
    format: LogFormat,
    redactor: Redactor,
    console: bool = True,
    console_name: str | None = None,
) -> Logs:
    """Send every logger of the process to *file* and, when *console* is set, to standard error.

    A file that cannot be opened costs one warning on standard error and nothing else.

    Args:
        level: Name of the lowest level that is logged.
        redactor: Applied to each finished line.
        console_name: What text lines on standard error name in the place of logger and path.
    """
    handlers: list[logging.Handler] = []
    if file is not None:
        try:
            handlers.append(RotatingFile(file))
        except OSError as exc:
            complain(
                f"Failed to setup file logging: {exc.strerror or exc}; logging to the console only "
                f"(check that {file.path.parent} is writable and that its disk is not full)"
            )
            console = True
    if console and sys.stderr is not None:
        handlers.append(logging.StreamHandler(sys.stderr))
    for handler in handlers:
        if format == "json":
            handler.setFormatter(JsonFormatter(redactor))
        else:
            # People at a terminal get the sentence; the traceback is in the file.
            traces = handler is handlers[0] or level == "DEBUG"
            program = None if isinstance(handler, RotatingFile) else console_name
            handler.setFormatter(TextFormatter(redactor, traces=traces, program=program))

    levels = {name: logging.getLogger(name).level for name in ("", *CHATTY, *TELLTALE)}
    for name in CHATTY:
        logging.getLogger(name).setLevel("WARNING" if level == "INFO" else level)
    for name in TELLTALE:
        logging.getLogger(name).setLevel("WARNING" if level in ("DEBUG", "INFO") else level)
    root = logging.getLogger()
    root.setLevel(level)
    records: queue.Queue[Any] = queue.Queue(QUEUE_LIMIT)
    entry = QueueHandler(records)
    root.addHandler(entry)
    logging.captureWarnings(True)
    writer = QueueWriter(records, *handlers)
    writer.start()
    return Logs(entry, writer, levels)


def _to_record(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Turn structlog's event into the arguments of a standard logger's method."""
    passed = {name: event.pop(name) for name in _PASSED_ON if name in event}
    return {"msg": event.pop("event"), "extra": {FIELDS: dict(event)}, **passed}
