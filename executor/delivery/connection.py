"""Opening the SQLite file: with the right mode and settings, and set aside when it is damaged."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from shared.logging import get_logger

logger = get_logger("state")

BUSY_TIMEOUT_S: Final = 5.0
"""How long SQLite itself waits for another process that reads the file."""

LOG_BYTES: Final = 4 * 1024 * 1024
"""What the log of changes is cut to when it begins anew, after a time of much writing."""

LOCKED: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
DAMAGED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
DISK: Final = (
    LOCKED
    | DAMAGED
    | {
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
    }
)
"""Errors of the disk and of the file, not of what was to be written."""

Prepare = Callable[[sqlite3.Connection], None]
"""Brings the tables up to date."""


class _Damaged(sqlite3.DatabaseError):
    """The file can be read, but what is in it does not fit together."""

    sqlite_errorcode = sqlite3.SQLITE_CORRUPT


def code(exc: Exception) -> int:
    """SQLite's primary result code; 0 when the error has none."""
    return getattr(exc, "sqlite_errorcode", 0) & 0xFF


def connect(path: Path, prepare: Prepare) -> sqlite3.Connection:
    """Open or make the file, 0600; a damaged one is set aside, and another takes its place.

    Raises:
        OSError, sqlite3.Error: It cannot be used.
    """
    try:
        return _connect(path, prepare)
    except sqlite3.Error as exc:
        if code(exc) not in DAMAGED:
            raise
        _set_aside(path, exc)
        return _connect(path, prepare)


def _connect(path: Path, prepare: Prepare) -> sqlite3.Connection:
    # Made with the right mode before SQLite opens it; its side files inherit the mode.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    path.chmod(0o600)
    db = sqlite3.connect(
        path, isolation_level=None, check_same_thread=False, timeout=BUSY_TIMEOUT_S
    )
    try:
        # Before there is anything in it: deleted events give their space back to the disk.
        db.execute("PRAGMA auto_vacuum = INCREMENTAL")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute(f"PRAGMA journal_size_limit = {LOG_BYTES}")
        db.execute("PRAGMA fullfsync = ON")  # on macOS, fsync alone does not reach the disk
        db.execute("PRAGMA recursive_triggers = ON")  # REPLACE deletes, too
        _check(db)
        prepare(db)
    except BaseException:
        db.close()
        raise
    return db


def _check(db: sqlite3.Connection) -> None:
    (finding,) = db.execute("PRAGMA quick_check(1)").fetchone()
    if finding != "ok":
        raise _Damaged(" ".join(finding.split()))


def _set_aside(path: Path, exc: sqlite3.Error) -> None:
    """Keep the damaged file under another name, in the place of one from before."""
    aside = path.with_name(f"{path.name}.damaged")
    for suffix in ("-wal", "-shm", ""):
        place = path.with_name(path.name + suffix)
        with suppress(FileNotFoundError):
            place.replace(aside.with_name(aside.name + suffix))
    logger.error(
        "%s is damaged (%s) and was set aside as %s. Lost with it: the runs this executor had"
        " accepted and not finished, what it had not yet told the backend, and which conversation"
        " belongs to which session; sessions begin anew",
        path,
        exc,
        aside.name,
    )
