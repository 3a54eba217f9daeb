"""The event log: appended in groups, read from any place.

Appends of all runs that arrive while a commit is under way share the next one, so that a
thousand small events cost a few commits. Nothing is acknowledged before its commit.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, NoReturn

from sqlalchemy import select

from executor_manager.store.database import Database, StoreError
from executor_manager.store.log import read_heads, write_heads
from executor_manager.store.records import Committed, NewEvent, StoredEvent, Superseded
from executor_manager.store.tables import events
from executor_manager.store.verdicts import failed_data
from shared.protocol.events import TERMINAL_EVENTS, EventType
from shared.status import ErrorCode

MAX_GROUP: Final = 500
"""Appends per commit; bounds how long the first of them waits for its acknowledgement."""

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Append:
    node_id: str
    run_id: str
    attempt: int
    events: Sequence[NewEvent]
    done: asyncio.Future[Committed | Superseded]

    def succeed(self, result: Committed | Superseded) -> None:
        if not self.done.done():
            self.done.set_result(result)

    def fail(self, error: Exception) -> None:
        if not self.done.done():
            self.done.set_exception(error)

    def unstorable(self) -> _Append:
        """The same places in the log, filled with the news that something is missing there."""
        return replace(self, events=[_placeholder(event) for event in self.events])


def _placeholder(event: NewEvent) -> NewEvent:
    lost = "the manager could not store what the executor told"
    if event.type in TERMINAL_EVENTS:  # no other verdict will come
        data = failed_data(lost, ErrorCode.INTERNAL.value)
        return NewEvent(event.seq, EventType.FAILED, data, event.timestamp)
    return NewEvent(event.seq, EventType.WARNING, {"message": lost}, event.timestamp)


class EventLog:
    """All events of all runs."""

    def __init__(self, database: Database, lease_seconds: float) -> None:
        self._database = database
        self._lease_seconds = lease_seconds
        self._waiting: asyncio.Queue[_Append] = asyncio.Queue()

    def append(
        self, node_id: str, run_id: str, attempt: int, new: Sequence[NewEvent]
    ) -> asyncio.Future[Committed | Superseded]:
        """Take what a node tells of a run, in the order of the calls.

        The future is done after the commit. It gets :class:`Superseded` when the run is unknown,
        or the node has no say in it; :class:`StoreError` when the database could not be written.
        An event that no database can hold is replaced by a warning, a verdict by a failure.
        """
        done = asyncio.get_running_loop().create_future()
        self._waiting.put_nowait(_Append(node_id, run_id, attempt, new, done))
        return done

    async def after(self, run_id: str, sequence: int, limit: int = 500) -> list[StoredEvent]:
        """The events that follow *sequence* (0: from the beginning), at most *limit*."""
        query = (
            select(events)
            .where(events.c.run_id == run_id, events.c.sequence > sequence)
            .order_by(events.c.sequence)
            .limit(limit)
        )
        async with self._database.read() as connection:
            return [StoredEvent(**row) for row in (await connection.execute(query)).mappings()]

    async def write_forever(self) -> NoReturn:
        """Commit what is appended; run by the store for as long as it is open."""
        while True:
            group = [await self._waiting.get()]
            while len(group) < MAX_GROUP and not self._waiting.empty():
                group.append(self._waiting.get_nowait())
            await self._commit(group)
            for _ in group:
                self._waiting.task_done()

    async def drain(self) -> None:
        """Wait until everything appended so far is committed, or has failed."""
        await self._waiting.join()

    async def _commit(self, group: list[_Append]) -> None:
        try:
            results = await self._write(group)
        except StoreError as exc:
            for append in group:
                append.fail(exc)
        except Exception:  # noqa: BLE001 - each is tried again, and then logged
            # One bad append must not take the others with it.
            for append in group:
                await self._commit_alone(append)
        else:
            for append, result in zip(group, results, strict=True):
                append.succeed(result)

    async def _commit_alone(self, append: _Append) -> None:
        try:
            try:
                [result] = await self._write([append])
            except StoreError:
                raise
            except Exception:
                # Sent again, it would fail again, and everything behind it would wait for ever.
                logger.exception("events of run %s could not be stored", append.run_id)
                [result] = await self._write([append.unstorable()])
        except Exception as exc:
            logger.exception("nothing could be stored for run %s", append.run_id)
            append.fail(exc)
        else:
            append.succeed(result)

    async def _write(self, group: list[_Append]) -> list[Committed | Superseded]:
        async with self._database.write() as transaction:
            heads = await read_heads(transaction, {append.run_id for append in group})
            results: list[Committed | Superseded] = []
            for append in group:
                head = heads.get(append.run_id)
                results.append(
                    Superseded()
                    if head is None
                    else head.extend(append.node_id, append.attempt, append.events)
                )
            await write_heads(transaction, list(heads.values()), lease_seconds=self._lease_seconds)
        return results
