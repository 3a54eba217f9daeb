"""One SQLite file, one thread that writes it: what the event loop hands over is grouped.

Work is done in the order in which it was submitted. Everything that waits while a commit is under
way shares the next one, so that thousands of small writes cost a few commits.

A disk that takes no more writes loses nothing: the work stays queued, in order, and is tried again.
A reserve file is given up then, so that there is room for the little that must still be written
(verdicts above all), and made anew when there is space again.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self, TypeVar

from executor.delivery.connection import DAMAGED, DISK, LOCKED, Prepare, code, connect
from executor.delivery.reserve import Reserve
from shared.errors import ConfigError, WegentError
from shared.logging import get_logger

logger = get_logger("state")

T = TypeVar("T")

MAX_GROUP: Final = 512
"""Pieces of work in one transaction; bounds how long the first of them waits for its commit."""

RETRY_S: Final = 0.5
"""Pause before the disk is tried again, or asked whether it has space again."""

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
        self._reserve = Reserve(path.with_name("reserve"))
        self._loop = asyncio.get_running_loop()
        self._queue: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()
        self._connection: sqlite3.Connection | None = None
        self._trouble: str | None = None
        self._damaged = False
        """Only another start helps."""
        self._next_look = 0.0
        self._alone = 0
        """How many pieces of work to do one by one, since one of them has failed."""
        self._closed = False
        self._ended = asyncio.Event()
        self._thread = threading.Thread(target=self._serve, name="state", daemon=True)
        self.on_disk_trouble: DiskListener = lambda reason: None

    @classmethod
    async def open(cls, path: Path, prepare: Prepare) -> Self:
        """Open or make the file, 0600, and let *prepare* bring its tables up to date.

        A damaged file is set aside, which the log tells.

        Raises:
            ConfigError: It cannot be used; says why and what to do.
        """
        database = cls(path)
        try:
            await asyncio.to_thread(database._open, prepare)
        except (OSError, sqlite3.Error) as exc:
            raise ConfigError(
                f"cannot open {path}: {exc}",
                hint="make WEGENT_EXECUTOR_HOME writable for this user, and see that it has space",
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

    def _open(self, prepare: Prepare) -> None:
        try:
            self._connection = connect(self._path, prepare)
        except sqlite3.Error as exc:
            if code(exc) not in DISK or not self._reserve.give_up():
                raise
            self._connection = connect(self._path, prepare)
        if not self._reserve.make():
            self._trouble = f"there is too little space for {self._path.parent}"

    def _serve(self) -> None:
        db = self._connection
        assert db is not None  # noqa: S101 - the thread starts after the file was opened
        waiting: list[_Work] = []
        ending = False
        while not (ending and not waiting):
            ending = self._collect(waiting, limit=MAX_GROUP) or ending
            if waiting:
                # On a full disk one by one: as much as there is room for.
                group = waiting[:1] if self._trouble or self._alone else waiting[:]
                try:
                    outcomes = _transact(db, group)
                except _OneFailed:
                    self._alone = len(group)
                    continue
                except sqlite3.Error as exc:
                    if self._refused(db, exc, final=self._closed):
                        continue
                    # All that follows, too: what is written must have no gap.
                    while not ending:
                        ending = self._collect(waiting, limit=len(waiting) + MAX_GROUP)
                    error = DatabaseClosed(f"the executor stopped before this was written: {exc}")
                    group, outcomes = waiting[:], [(work.done, None, error) for work in waiting]
                self._alone = max(0, self._alone - len(group))
                del waiting[: len(group)]
                self._call(_settle, outcomes)
                if self._trouble:
                    _pragma(db, "wal_checkpoint(RESTART)")  # the log takes as much space again
            self._look_for_space(db)
        db.close()
        self._call(self._ended.set)

    def _collect(self, waiting: list[_Work], *, limit: int) -> bool:
        """Add to *waiting* what there is; waits when there is nothing. True at the end of all."""
        try:
            if not waiting:
                work = self._queue.get(timeout=RETRY_S if self._trouble else None)
                if work is None:
                    return True
                waiting.append(work)
            while len(waiting) < limit:
                work = self._queue.get_nowait()
                if work is None:
                    return True
                waiting.append(work)
        except queue.Empty:
            pass
        return False

    def _refused(self, db: sqlite3.Connection, exc: sqlite3.Error, *, final: bool) -> bool:
        """Take note that the disk refused a transaction; whether to try it again."""
        if code(exc) in LOCKED:
            logger.warning("%s is locked by another process", self._path.name)
        elif code(exc) in DAMAGED:
            if not self._damaged:
                logger.error("%s is damaged: %s", self._path, exc)
            self._damaged = True
            self._set_trouble(f"{self._path} is damaged; restart the executor")
        else:
            self._set_trouble(f"{self._path.parent} takes no more writes: {exc}")
            if self._reserve.give_up():
                return True
        if final:
            return False
        time.sleep(RETRY_S)
        _tidy(db)
        return True

    def _look_for_space(self, db: sqlite3.Connection) -> None:
        if self._trouble and not self._damaged and time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + RETRY_S
            _tidy(db)
            if self._reserve.make():
                self._set_trouble(None)

    def _set_trouble(self, reason: str | None) -> None:
        if (reason is None) == (self._trouble is None):
            return
        self._trouble = reason
        self._call(lambda: self.on_disk_trouble(reason))

    def _call(self, function: Callable[..., object], *args: object) -> None:
        with suppress(RuntimeError):  # the loop has ended; nobody waits any more
            self._loop.call_soon_threadsafe(function, *args)


_Outcome = tuple[Callable[[Any, Exception | None], None] | None, Any, Exception | None]


class _OneFailed(Exception):
    """One of several pieces of work has failed by itself; nothing has been done."""


def _tidy(db: sqlite3.Connection) -> None:
    """Make room within the file and its log: what was delivered has left free pages behind."""
    for name in ("wal_checkpoint(TRUNCATE)", "incremental_vacuum", "wal_checkpoint(TRUNCATE)"):
        _pragma(db, name)


def _pragma(db: sqlite3.Connection, name: str) -> None:
    """Do it, unless the disk refuses."""
    with suppress(sqlite3.Error):
        db.execute(f"PRAGMA {name}").fetchall()


def _transact(db: sqlite3.Connection, waiting: Sequence[_Work]) -> list[_Outcome]:
    """Do everything in one transaction; work that fails by itself must come alone.

    Raises:
        sqlite3.Error: The disk refused it; nothing has been done.
        _OneFailed: Some work failed, and its neighbours are not to blame.
    """
    # FULL writes the log of changes through to the disk at the commit; with NORMAL, the loss of
    # power may cost the last moments, never the order or the file.
    durable = any(work.durable for work in waiting)
    db.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
    db.execute("BEGIN IMMEDIATE")
    try:
        outcomes = [_do(db, group) for group in _groups(waiting)]
        db.execute("COMMIT")
    except Exception as exc:
        if db.in_transaction:
            db.execute("ROLLBACK")
        if isinstance(exc, sqlite3.Error) and code(exc) in DISK:
            raise
        if len(waiting) > 1:
            raise _OneFailed from exc
        return [(waiting[0].done, None, exc)]
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
    if first.grouped:
        return last.done, first.run(db, [work.item for work in group]), None
    return first.done, first.run(db), None


def _settle(outcomes: Sequence[_Outcome]) -> None:
    for done, result, error in outcomes:
        if done is not None:
            done(result, error)


def _log_failure(_result: object, error: Exception | None) -> None:
    if error is not None:
        logger.error("state not written: %s", error)
