"""The event log: appended in groups, read from any place.

Appends of all runs that arrive while a commit is under way share the next one, so that a
thousand small events cost a few commits. Nothing is acknowledged before its commit.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from sqlalchemy import select

from executor_manager.store.database import Database
from executor_manager.store.log import append_own, read_heads, write_heads
from executor_manager.store.records import Committed, NewEvent, StoredEvent, Superseded
from executor_manager.store.tables import events
from shared.errors import WegentError

MAX_GROUP: Final = 500
"""Appends per commit; bounds how long the first of them waits for its acknowledgement."""

logger = logging.getLogger(__name__)


class StoreError(WegentError):
    """The database could not be written; nothing of the append is in it."""

    code = "store_unavailable"


@dataclass(slots=True)
class _Append:
    node_id: str
    run_id: str
    attempt: int
    events: Sequence[NewEvent]
    done: asyncio.Future[Committed | Superseded]


class EventLog:
    """All events of all runs."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: asyncio.Queue[_Append] = asyncio.Queue()

    def append(
        self, node_id: str, run_id: str, attempt: int, new: Sequence[NewEvent]
    ) -> asyncio.Future[Committed | Superseded]:
        """Take what a node tells of a run, in the order of the calls.

        The future is done after the commit. It gets :class:`Superseded` when the run is unknown,
        or the node has no say in it; :class:`StoreError` when the database could not be written.
        """
        done = asyncio.get_running_loop().create_future()
        self._waiting.put_nowait(_Append(node_id, run_id, attempt, new, done))
        return done

    async def append_own(self, run_id: str, type_: str, data: Mapping[str, Any]) -> bool:
        """Add an event of the control plane itself, a verdict included.

        Returns:
            ``False`` when the run is unknown or has a verdict: nothing was added.
        """
        async with self._database.write() as transaction:
            return await append_own(transaction, run_id, type_, data)

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
        except Exception as exc:
            if len(group) > 1:  # one bad append must not take the others with it
                for one in group:
                    await self._commit([one])
                return
            logger.exception("events of run %s could not be stored", group[0].run_id)
            if not group[0].done.done():
                error = StoreError("the event could not be stored", hint="see the manager's log")
                error.__cause__ = exc
                group[0].done.set_exception(error)
            return
        for append, result in zip(group, results, strict=True):
            if not append.done.done():
                append.done.set_result(result)

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
            await write_heads(transaction, list(heads.values()))
        return results
