"""What outlives the process: sessions, accepted runs, and what the backend has not confirmed.

``{home}/state.db``, SQLite, 0600. Everything is done by the database's own thread in the order of
the calls, so that the event loop never waits for a disk.
"""

from __future__ import annotations

import asyncio
import functools
import sqlite3
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self, TypeVar

from executor.delivery import bounding, event_rows, run_rows, session_rows
from executor.delivery.bounding import Bounds
from executor.delivery.database import Database, DiskListener
from executor.delivery.event_rows import Held, Placed
from executor.delivery.run_rows import RunRecord, Spending
from executor.delivery.schema import migrate
from executor.delivery.session_rows import SessionRecord
from shared.logging import get_logger
from shared.protocol.events import NumberedEvent, RunKey, RunRef

logger = get_logger("state")

T = TypeVar("T")

FINISHED_KEPT_S: Final = 7 * 24 * 3600.0
"""How long a finished run is known, so that a repeat gets its result. Source: Delivery 1."""


@dataclass(frozen=True, slots=True)
class Outstanding:
    """What an outbox begins with."""

    held: list[Held]
    last_position: int


class StateStore:
    """Opened once per process; :meth:`close` finishes what was asked before it."""

    def __init__(self, database: Database, clock: float) -> None:
        """Use :meth:`open`."""
        self._database = database
        self._began = clock - time.monotonic()
        self._insert = functools.partial(_insert_events, now=self.now)

    @classmethod
    async def open(cls, path: Path) -> Self:
        """Open or make the database.

        Raises:
            ConfigError: It cannot be used; says why and what to do.
        """
        database = await Database.open(path, migrate)
        return cls(database, await database.submit(_read_clock))

    def now(self) -> float:
        """Seconds by the executor's own clock, which goes on from start to start.

        It stands while no executor runs and while the machine sleeps, and knows nothing of the wall
        clock: no jump of that makes anything old, or young.
        """
        return self._began + time.monotonic()

    def on_disk_trouble(self, listener: DiskListener) -> None:
        """Have *listener* told the reason when writing fails, and ``None`` when it works again.

        It is told at once when writing fails already.
        """
        self._database.on_disk_trouble = listener
        if self._database.disk_trouble is not None:
            listener(self._database.disk_trouble)

    async def close(self) -> None:
        """Finish all writes and close the file."""
        await self._database.close()

    def submit(
        self, work: Callable[[sqlite3.Connection], T], *, durable: bool = False
    ) -> asyncio.Future[T]:
        """Do *work* after all that was asked before; done when it is committed.

        For those parts of delivery that have SQL of their own. *work* may be done again. *durable*:
        the commit also survives the loss of power.
        """
        return self._database.submit(work, durable=durable)

    def tell(self, work: Callable[[sqlite3.Connection], object]) -> None:
        """Do *work* like :meth:`submit`; nobody waits for it, and an error is logged."""
        self._database.tell(work)

    # --- Sessions -------------------------------------------------------------------------------

    async def session(self, task_id: int | str) -> SessionRecord | None:
        """What is known of a session; ``None`` when it has never run here."""
        return await self._database.submit(lambda db: session_rows.read(db, str(task_id)))

    def save_session(self, record: SessionRecord) -> None:
        """Write a session down; returns before it is on disk, an error is logged."""
        self._database.tell(lambda db: session_rows.write(db, record))

    # --- Runs -----------------------------------------------------------------------------------

    async def runs(self) -> list[RunRecord]:
        """Every accepted run that is known, in the order of acceptance; forgets the old ones."""
        forgotten_before = self.now() - FINISHED_KEPT_S

        def read(db: sqlite3.Connection) -> list[RunRecord]:
            run_rows.forget_finished(db, forgotten_before)
            return run_rows.read_all(db)

        return await self._database.submit(read)

    def accept(self, run: RunRef) -> asyncio.Future[None]:
        """Write an accepted run down; done when that survives the loss of power."""
        return self._database.submit(lambda db: run_rows.accept(db, run), durable=True)

    def forget_run(self, key: RunKey) -> None:
        """Delete a run and everything it has told."""
        self._database.tell(lambda db: run_rows.delete(db, key))

    async def spending(self, key: RunKey) -> Spending | None:
        """What a run has used so far; ``None`` when its agent has not begun yet."""
        return await self._database.submit(lambda db: run_rows.read_spending(db, key))

    def save_spending(self, key: RunKey, spending: Spending) -> None:
        """Write down what a run has used; returns before it is on disk, an error is logged."""
        self._database.tell(lambda db: run_rows.write_spending(db, key, spending))

    async def used_s(self, key: RunKey) -> float:
        """For how long a run has been carried out, in seconds, as it was written down last."""
        return await self._database.submit(lambda db: run_rows.read_used_s(db, key))

    def save_time(self, key: RunKey, used_s: float, limit_s: float | None) -> None:
        """Write down how much of its time a run has used; returns before it is on disk.

        An error is logged. *limit_s* is how long it may take in all; ``None``: as it was.
        """
        seen_at = time.monotonic()
        self._database.tell(lambda db: run_rows.write_time(db, key, used_s, limit_s, seen_at))

    # --- Events ---------------------------------------------------------------------------------

    async def outstanding(self) -> Outstanding:
        """Which events wait for the backend."""
        return await self._database.submit(
            lambda db: Outstanding(event_rows.held(db), event_rows.last_position(db))
        )

    def add_event(
        self, position: int, event: NumberedEvent, *, written: Callable[[int], None]
    ) -> None:
        """Write an event, and what it says about its run.

        *written* is called with the highest position that is committed. A verdict is then safe
        from loss of power, too.
        """

        def done(last: object, error: Exception | None) -> None:
            if error is not None:
                logger.error("an event was not written: %s", error)
            elif isinstance(last, int):
                written(last)

        self._database.add(self._insert, (position, event), durable=event.event.terminal, done=done)

    async def events_after(self, position: int, limit: int) -> list[Placed]:
        """The events that follow *position*, in order, with those added before this call."""
        return await self._database.submit(lambda db: event_rows.read_page(db, position, limit))

    async def events_of(self, key: RunKey, up_to: int) -> list[Placed]:
        """A run's events up to position *up_to*."""
        return await self._database.submit(lambda db: event_rows.read_run(db, key, up_to))

    def delete_acknowledged(self, acked: Mapping[RunKey, int]) -> None:
        """Delete the events of each run up to a ``seq``."""
        items = list(acked.items())
        self._database.tell(lambda db: event_rows.delete_acknowledged(db, items))

    def delete_events(self, key: RunKey) -> None:
        """Delete all events of a run."""
        self._database.tell(lambda db: event_rows.delete_run_events(db, key))

    def add_verdict(self, key: RunKey, position: int) -> None:
        """Put a finished run's verdict among the events once more."""
        now = self.now()
        self._database.tell(lambda db: event_rows.insert_verdict(db, key, position, now))

    def fill_gap(self, run: RunRef, covers_from: int, seq: int, position: int) -> None:
        """Put a placeholder for events that are gone before what is held of the run.

        *position* serves when nothing is held of it.
        """
        now = self.now()
        self._database.tell(
            lambda db: event_rows.fill_gap(db, run, covers_from, seq, position, now)
        )

    async def shrink(self, bounds: Bounds, after: int) -> bool:
        """Replace some of the oldest events after position *after* if they exceed *bounds*.

        Returns:
            Whether something was replaced: there may be more to do.
        """
        now = self.now()

        def work(db: sqlite3.Connection) -> bool:
            db.execute("UPDATE clock SET seconds = max(seconds, ?)", (now,))
            return bounding.shrink(db, bounds, after, now)

        return await self._database.submit(work)

    def give_back_space(self) -> None:
        """Return a part of the file's unused space to the disk."""
        self._database.tell(bounding.give_back_space)


# --- On the database's thread -------------------------------------------------------------------


def _insert_events(
    db: sqlite3.Connection, placed: list[Placed], *, now: Callable[[], float]
) -> int:
    event_rows.insert_events(db, placed, now())
    return placed[-1][0]


def _read_clock(db: sqlite3.Connection) -> float:
    """When an earlier process was last seen to run."""
    (seconds,) = db.execute(
        "SELECT max(seconds, coalesce((SELECT max(finished_at) FROM runs), 0.0), coalesce("
        " (SELECT created_at FROM events ORDER BY position DESC LIMIT 1), 0.0)) FROM clock"
    ).fetchone()
    return float(seconds)
