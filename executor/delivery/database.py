"""One SQLite file, one thread that writes it: what the event loop hands over is grouped.

Work is done in the order in which it was submitted. Everything that waits while a commit is under
way shares the next one, so that thousands of small writes cost a few commits.

A disk that takes no more writes loses nothing: the work stays queued, in order, and is tried again.
A reserve file is given up then, so that there is room for the little that must still be written
(verdicts above all), and made anew when there is space again.
"""

from __future__ import annotations

import asyncio
import os
import queue
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self, TypeVar

from shared.errors import ConfigError, WegentError
from shared.logging import get_logger

logger = get_logger("state")

T = TypeVar("T")

MAX_GROUP: Final = 512
"""Pieces of work in one transaction; bounds how long the first of them waits for its commit."""

RESERVE_BYTES: Final = 4 * 1024 * 1024
"""Room for verdicts on a full disk: dozens of the largest, thousands of ordinary ones."""

RETRY_S: Final = 0.5
"""Pause before the disk is tried again, or asked whether it has space again."""

BUSY_TIMEOUT_S: Final = 5.0
"""How long SQLite itself waits for another process that reads the file."""

_LOCKED: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_DISK: Final = _LOCKED | {
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PROTOCOL,
}
"""Errors of the disk, not of what was to be written: trying again may succeed."""

DiskListener = Callable[[str | None], None]
"""Told the reason when the disk takes no more writes, and ``None`` when it does again."""


class DatabaseClosed(WegentError):
    """The database was closed before this was written."""

    code = "state_closed"


@dataclass(slots=True)
class _Work:
    run: Callable[..., Any]
    item: Any = None
    grouped: bool = False
    """Whether *run* takes a list of items: those of all neighbours of the same kind."""
    durable: bool = False
    done: Callable[[Any, Exception | None], None] | None = None


class Database:
    """Owns the connection. Made by :meth:`open`, ended by :meth:`close`."""

    def __init__(self, path: Path) -> None:
        """Use :meth:`open`."""
        self._path = path
        self._reserve = path.with_name("reserve")
        self._loop = asyncio.get_running_loop()
        self._queue: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()
        self._connection: sqlite3.Connection | None = None
        self._trouble: str | None = None
        self._next_look = 0.0
        self._closed = False
        self._ended = asyncio.Event()
        self._thread = threading.Thread(target=self._serve, name="state", daemon=True)
        self.on_disk_trouble: DiskListener = lambda reason: None

    @classmethod
    async def open(cls, path: Path, prepare: Callable[[sqlite3.Connection], None]) -> Self:
        """Open or make the file, 0600, and let *prepare* bring its tables up to date.

        Raises:
            ConfigError: It cannot be used; says why and what to do.
        """
        database = cls(path)
        try:
            await asyncio.to_thread(database._open, prepare)
        except (OSError, sqlite3.Error) as exc:
            raise ConfigError(
                f"cannot open {path}: {exc}",
                hint="make WEGENT_EXECUTOR_HOME writable, or move the damaged file away",
            ) from exc
        database._thread.start()
        return database

    @property
    def disk_trouble(self) -> str | None:
        """Why the disk takes no writes right now; ``None`` when it does."""
        return self._trouble

    def submit(
        self, work: Callable[[sqlite3.Connection], T], *, durable: bool = False
    ) -> asyncio.Future[T]:
        """Do *work* in the next transaction; the future is done after its commit.

        *work* may be done again from the start when the transaction could not be committed.

        Args:
            durable: The commit also survives the loss of power.
        """
        future: asyncio.Future[T] = self._loop.create_future()

        def settle(result: T, error: Exception | None) -> None:
            if future.done():
                return
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)

        self._put(_Work(work, durable=durable, done=settle))
        return future

    def tell(self, work: Callable[[sqlite3.Connection], object]) -> None:
        """Do *work* like :meth:`submit`; nobody waits for it, and an error is logged."""
        self._put(_Work(work, done=_log_failure))

    def add(
        self,
        work: Callable[[sqlite3.Connection, list[T]], object],
        item: T,
        *,
        durable: bool = False,
        done: Callable[[object, Exception | None], None],
    ) -> None:
        """Do *work* on a list of items, of which this is one: neighbours are done together.

        *done* is called after the commit, once for neighbours, with the result for all of them.
        """
        self._put(_Work(work, item, grouped=True, durable=durable, done=done))

    async def close(self) -> None:
        """Finish what was submitted and close the file; what a full disk refuses is lost, and told.

        Harmless when called again.
        """
        if not self._closed:
            self._closed = True
            self._queue.put(None)
        await self._ended.wait()

    def _put(self, work: _Work) -> None:
        if self._closed:
            error = DatabaseClosed("the executor's state is closed already")
            if work.done is not None:
                work.done(None, error)
            return
        self._queue.put(work)

    # --- On the thread --------------------------------------------------------------------------

    def _open(self, prepare: Callable[[sqlite3.Connection], None]) -> None:
        try:
            self._connection = _connect(self._path, prepare)
        except sqlite3.Error as exc:
            if not _is_disk(exc) or not self._give_up_reserve():
                raise
            self._connection = _connect(self._path, prepare)
        if not self._make_reserve():
            self._trouble = f"there is too little space for {self._path.parent}"

    def _serve(self) -> None:
        db = self._connection
        assert db is not None  # noqa: S101 - the thread starts after the file was opened
        waiting: list[_Work] = []
        ending = False
        while not (ending and not waiting):
            ending = self._collect(waiting) or ending
            if waiting:
                try:
                    outcomes = _transact(db, waiting)
                except sqlite3.Error as exc:
                    if self._refused(exc, final=ending):
                        continue
                    error = DatabaseClosed(f"the executor stopped with a disk that is full: {exc}")
                    outcomes = [(work.done, None, error) for work in waiting]
                waiting.clear()
                self._call(_settle, outcomes)
            self._look_for_space(db)
        db.close()
        self._call(self._ended.set)

    def _collect(self, waiting: list[_Work]) -> bool:
        """Add to *waiting* what there is; waits when there is nothing. True at the end of all."""
        try:
            if not waiting:
                work = self._queue.get(timeout=RETRY_S if self._trouble else None)
                if work is None:
                    return True
                waiting.append(work)
            while len(waiting) < MAX_GROUP:
                work = self._queue.get_nowait()
                if work is None:
                    return True
                waiting.append(work)
        except queue.Empty:
            pass
        return False

    def _refused(self, exc: sqlite3.Error, *, final: bool) -> bool:
        """Take note that the disk refused a transaction; whether to try it again."""
        if _code(exc) in _LOCKED:
            logger.warning("%s is locked by another process", self._path.name)
        else:
            self._set_trouble(f"{self._path.parent} takes no more writes: {exc}")
            if self._give_up_reserve():
                return True
        if final:
            return False
        time.sleep(RETRY_S)
        return True

    def _look_for_space(self, db: sqlite3.Connection) -> None:
        if self._trouble and time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + RETRY_S
            with suppress(sqlite3.Error):  # what was delivered meanwhile left free pages behind
                db.execute("PRAGMA incremental_vacuum").fetchall()
                db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            if self._make_reserve():
                self._set_trouble(None)

    def _set_trouble(self, reason: str | None) -> None:
        if (reason is None) == (self._trouble is None):
            return
        self._trouble = reason
        self._call(lambda: self.on_disk_trouble(reason))

    def _give_up_reserve(self) -> bool:
        """Make room; False when there is nothing left to give up."""
        try:
            self._reserve.unlink()
        except OSError:
            return False
        return True

    def _make_reserve(self) -> bool:
        """Have the reserve, unless the disk has not twice its size left."""
        try:
            if self._reserve.exists() and self._reserve.stat().st_size >= RESERVE_BYTES:
                return True
            if shutil.disk_usage(self._path.parent).free < 2 * RESERVE_BYTES:
                return False
            # Random, so that a disk that compresses holds the space too.
            with open(
                self._reserve, "wb", opener=lambda p, flags: os.open(p, flags, 0o600)
            ) as file:
                file.write(os.urandom(RESERVE_BYTES))
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            with suppress(OSError):
                self._reserve.unlink()
            return False
        return True

    def _call(self, function: Callable[..., object], *args: object) -> None:
        with suppress(RuntimeError):  # the loop has ended; nobody waits any more
            self._loop.call_soon_threadsafe(function, *args)


_Outcome = tuple[Callable[[Any, Exception | None], None] | None, Any, Exception | None]


def _connect(path: Path, prepare: Callable[[sqlite3.Connection], None]) -> sqlite3.Connection:
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
        db.execute("PRAGMA fullfsync = ON")  # on macOS, fsync alone does not reach the disk
        db.execute("PRAGMA recursive_triggers = ON")  # REPLACE deletes, too
        prepare(db)
    except BaseException:
        db.close()
        raise
    return db


def _transact(db: sqlite3.Connection, waiting: Sequence[_Work]) -> list[_Outcome]:
    """Do everything in one transaction.

    Raises:
        sqlite3.Error: The disk refused it; nothing has been done.
    """
    # FULL writes the log of changes through to the disk at the commit; with NORMAL, the loss of
    # power may cost the last moments, never the order or the file.
    durable = any(work.durable for work in waiting)
    db.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
    db.execute("BEGIN IMMEDIATE")
    try:
        outcomes = [_do(db, group) for group in _groups(waiting)]
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
    return outcomes


def _groups(waiting: Sequence[_Work]) -> list[list[_Work]]:
    """Neighbours of the same grouped kind together, everything else alone."""
    groups: list[list[_Work]] = []
    for work in waiting:
        if groups and work.grouped and groups[-1][0].run == work.run:
            groups[-1].append(work)
        else:
            groups.append([work])
    return groups


def _do(db: sqlite3.Connection, group: list[_Work]) -> _Outcome:
    first, last = group[0], group[-1]
    try:
        if first.grouped:
            return last.done, first.run(db, [work.item for work in group]), None
        return first.done, first.run(db), None
    except Exception as exc:
        # The others of the transaction are not to blame, unless it is gone already.
        if isinstance(exc, sqlite3.Error) and (_is_disk(exc) or not db.in_transaction):
            raise
        return last.done, None, exc


def _settle(outcomes: Sequence[_Outcome]) -> None:
    for done, result, error in outcomes:
        if done is not None:
            done(result, error)


def _code(exc: sqlite3.Error) -> int:
    return getattr(exc, "sqlite_errorcode", 0) & 0xFF


def _is_disk(exc: sqlite3.Error) -> bool:
    return _code(exc) in _DISK


def _log_failure(_result: object, error: Exception | None) -> None:
    if error is not None:
        logger.error("state not written: %s", error)
