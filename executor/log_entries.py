"""Reads back what :mod:`shared.log_format` has written, in both of its formats."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

_BEGINNING: Final = re.compile(
    r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d - \[[^\]]*\] - \[in [^\n]*?:\d+\] - ([A-Z]+) - "
)
_ID: Final = re.compile(r' (?:sub)?task_id=("(?:[^"\\]|\\.)*"|[\w.:/@+-]+)(?=\s|$)')


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One record of the log, as it was written.

    Attributes:
        level: ``INFO`` and so on; empty for lines that belong to no known record.
        ids: What its run is called: the task's id, the subtask's and ``TASK/SUBTASK``; empty when
            it is about none.
        lines: The line and those of its traceback, without their ends.
    """

    level: str = ""
    ids: frozenset[str] = frozenset()
    lines: list[str] = field(default_factory=list)

    def is_at_least(self, level: str) -> bool:
        """Whether this is as grave as *level*, or graver."""
        names = logging.getLevelNamesMapping()
        return names.get(self.level, 0) >= names[level]


class LogParser:
    """Makes entries of lines that may come in portions."""

    def __init__(self) -> None:
        self._last = LogEntry()

    def parse(self, lines: Iterable[str]) -> Iterator[LogEntry]:
        """The entries of the next *lines*.

        When the first of them continue an entry of an earlier portion, they come as one of the same
        level and ids.
        """
        entry = LogEntry(self._last.level, self._last.ids)
        for line in lines:
            begun = _begun_by(line)
            if begun is None:
                entry.lines.append(line)
                continue
            if entry.lines:
                yield entry
            entry = self._last = begun
        if entry.lines:
            yield entry


def _begun_by(line: str) -> LogEntry | None:
    """The entry that *line* begins; ``None`` when it continues another."""
    if match := _BEGINNING.match(line):
        ids = [_plain(found[1]) for found in _ID.finditer(line, match.end() - 1)]
        return LogEntry(match[1], _names(ids), [line])
    if not line.startswith("{"):
        return None
    try:
        record = json.loads(line)
        level = record["level"]
    except (ValueError, KeyError, RecursionError):
        return None
    named = (record.get("task_id"), record.get("subtask_id"))
    return LogEntry(str(level), _names([str(id_) for id_ in named if id_ is not None]), [line])


def _names(ids: list[str]) -> frozenset[str]:
    """*ids*, and the last two as one: fields stand behind the message, the task's before the
    subtask's."""
    return frozenset((*ids, "/".join(ids[-2:]))) if ids else frozenset()


def _plain(value: str) -> str:
    if not value.startswith('"'):
        return value
    try:
        return str(json.loads(value))
    except ValueError:  # its end was cut off or masked
        return value
