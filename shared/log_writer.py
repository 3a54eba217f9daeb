"""How a record reaches the log file: through a queue, on a thread of its own."""

from __future__ import annotations

import io
import logging
import logging.handlers
import os
import queue
import sys
from contextlib import suppress
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import structlog

from shared.log_format import CONTEXT
from shared.private_files import PRIVATE_FILE, make_private_directory

QUEUE_LIMIT: Final = 20_000
"""Records waiting to be written. Beyond it (a hanging disk) lines are dropped and counted."""

CLOSE_TIMEOUT_S: Final = 2.0
"""How long :meth:`QueueWriter.stop` waits for the last lines; a disk may hang."""


@dataclass(frozen=True)
class LogFile:
    """Where a log file lies and when it rotates.

    Attributes:
        path: ``executor.log``; the older ones are ``executor.log.1``, ``executor.log.2``, …
        max_bytes: Size at which the file is rotated.
        backups: How many older files are kept; at least 1.
    """

    path: Path
    max_bytes: int
    backups: int


class QueueHandler(logging.handlers.QueueHandler):
    """Hands records to the writer's thread; never blocks."""

    def __init__(self, records: queue.Queue[Any]) -> None:
        super().__init__(records)
        self._dropped = 0

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        # The arguments may change and the context is this task's: both are read now. The
        # traceback is formatted by the writer.
        prepared = copy(record)
        prepared.msg = record.getMessage()
        prepared.args = None
        setattr(prepared, CONTEXT, structlog.contextvars.get_contextvars())
        return prepared

    def enqueue(self, record: logging.LogRecord) -> None:
        try:
            if self._dropped:
                self.queue.put_nowait(self._note(record))
                self._dropped = 0
            self.queue.put_nowait(record)
        except queue.Full:
            self._dropped += 1

    def _note(self, record: logging.LogRecord) -> logging.LogRecord:
        note = copy(record)
        note.levelno, note.levelname = logging.WARNING, "WARNING"
        note.msg = f"{self._dropped} lines before this one are lost: the log could not keep up"
        note.exc_info = note.stack_info = None
        return note


class QueueWriter(logging.handlers.QueueListener):
    """The thread that writes; :meth:`stop` gives up on a disk that hangs."""

    def __init__(self, records: queue.Queue[Any], *handlers: logging.Handler) -> None:
        super().__init__(records, *handlers)
        self._records = records

    def stop(self) -> None:
        thread = self._thread
        if thread is None:
            return
        with suppress(queue.Full):
            self._records.put(None, timeout=CLOSE_TIMEOUT_S)  # the sentinel
            thread.join(CLOSE_TIMEOUT_S)
        if thread.is_alive():
            return  # it holds its handlers' locks; it is a daemon and ends with the process
        self._thread = None
        for handler in self.handlers:
            with suppress(OSError):  # the disk may still be full
                handler.close()


class RotatingFile(logging.handlers.RotatingFileHandler):
    """A rotating file for its owner's eyes only; it complains once when it cannot be written."""

    def __init__(self, file: LogFile) -> None:
        self._failing = False
        make_private_directory(file.path.parent)
        super().__init__(
            file.path, maxBytes=file.max_bytes, backupCount=file.backups, encoding="utf-8"
        )

    def _open(self) -> io.TextIOWrapper:
        # Unpaired surrogates (names of files that are not UTF-8) must not cost the line.
        stream = open(  # noqa: SIM115  the handler closes it; Path.open takes no opener
            self.baseFilename,
            "a",
            encoding="utf-8",
            errors="backslashreplace",
            opener=lambda path, flags: os.open(path, flags, PRIVATE_FILE),
        )
        with suppress(OSError):  # it may be somebody else's; then it is as they want it
            Path(self.baseFilename).chmod(PRIVATE_FILE)
        return stream

    def flush(self) -> None:
        super().flush()
        self._failing = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        del record
        if not self._failing:
            self._failing = True
            complain(
                f"The log file {self.baseFilename} cannot be written: {sys.exc_info()[1]}; "
                "lines are missing from it until it can"
            )


def complain(text: str) -> None:
    """Say on standard error what the log itself cannot say."""
    if sys.stderr is not None:
        sys.stderr.write(f"{text}\n")
