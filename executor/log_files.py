"""The log file and the older ones beside it, read in the order in which they were written."""

from __future__ import annotations

import itertools
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Final

from executor.log_entries import LogEntry, LogParser

POLL_S: Final = 0.25
"""Pause before the end of the file is looked at again."""

Wanted = Callable[[LogEntry], bool]


class LogFiles:
    """Reads the log at *path*; a context manager, which closes the files.

    It may be rotated at any time: a file that is open stays the same file under another name.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._files: list[BinaryIO] = []
        """The newest first."""

    def __enter__(self) -> LogFiles:
        # The newest first: what is rotated meanwhile is met again as the next older one.
        for path in _paths(self._path):
            file = _open(path)
            if file is None:
                break
            if self._files and _identity(file) == _identity(self._files[-1]):
                file.close()
            else:
                self._files.append(file)
        return self

    def __exit__(self, *exc_info: object) -> None:
        for file in self._files:
            file.close()

    @property
    def any(self) -> bool:
        """Whether there is a log at all."""
        return bool(self._files)

    def last(self, count: int | None, wanted: Wanted) -> list[LogEntry]:
        """The last *count* entries that are *wanted*, ``None``: all; the oldest first."""
        parts: list[deque[LogEntry]] = []
        if count == 0 and self._files:
            self._files[0].seek(0, os.SEEK_END)
        for file in self._files:
            rest = None if count is None else count - sum(map(len, parts))
            if rest == 0:
                break
            entries = filter(wanted, LogParser().parse(map(_text, file)))
            parts.append(deque(entries, maxlen=rest))
        return [entry for part in reversed(parts) for entry in part]

    def follow(
        self, wanted: Wanted, *, pause: Callable[[], object] = lambda: time.sleep(POLL_S)
    ) -> Iterator[LogEntry]:
        """The wanted entries after those that :meth:`last` has seen, for ever.

        Args:
            pause: Called whenever there is nothing new; may raise to end it all.
        """
        parser = LogParser()
        tail = _Tail(self._files[0]) if self._files else None
        while True:
            # Asked before the rest is read: once there is a newer file, nobody writes to this one.
            newer = _next_newer(self._path, tail.identity if tail is not None else None)
            lines = tail.new_lines() if tail is not None else []
            yield from filter(wanted, parser.parse(lines))
            if newer is not None:
                self._files.append(newer)
                tail = _Tail(newer)
            elif not lines:
                pause()


class _Tail:
    """Reads what is added to a file."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._unfinished = b""
        self.identity = _identity(file)

    def new_lines(self) -> list[str]:
        """The lines that have been finished since the last call."""
        if os.fstat(self._file.fileno()).st_size < self._file.tell():  # somebody has emptied it
            self._file.seek(0)
            self._unfinished = b""
        *lines, self._unfinished = (self._unfinished + self._file.read()).split(b"\n")
        return [_text(line) for line in lines]


def _paths(path: Path) -> Iterator[Path]:
    """The names that the files of a log may have, for ever; the newest first."""
    yield path
    for number in itertools.count(1):
        yield path.with_name(f"{path.name}.{number}")


def _open(path: Path) -> BinaryIO | None:
    try:
        return _open_shared(path)
    except FileNotFoundError:
        return None


if sys.platform == "win32":
    import _winapi
    import msvcrt

    def _open_shared(path: Path) -> BinaryIO:
        # What Python opens cannot be renamed there: the executor could not rotate its log.
        share_read_write_delete = 7
        handle = _winapi.CreateFile(
            str(path),
            _winapi.GENERIC_READ,
            share_read_write_delete,
            0,
            _winapi.OPEN_EXISTING,
            0,
            0,
        )
        return os.fdopen(msvcrt.open_osfhandle(handle, os.O_RDONLY), "rb")
else:

    def _open_shared(path: Path) -> BinaryIO:
        return path.open("rb")


def _next_newer(path: Path, than: tuple[int, int] | None) -> BinaryIO | None:
    """Open the file that was begun after *than*, or the oldest when there is none like it.

    ``None`` when *than* is the newest.
    """
    newer: BinaryIO | None = None
    for candidate in _paths(path):
        file = _open(candidate)
        if file is None:
            return newer
        if _identity(file) == than:
            file.close()
            return newer
        if newer is not None:
            newer.close()
        newer = file
    return newer  # never reached: the names are endless


def _identity(file: BinaryIO) -> tuple[int, int]:
    status = os.fstat(file.fileno())
    return status.st_dev, status.st_ino


def _text(line: bytes) -> str:
    return line.decode("utf-8", "backslashreplace").removesuffix("\n")
