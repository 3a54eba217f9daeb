"""The store: one database, opened for as long as its context lasts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, Self

from executor_manager.store.database import Changes, Database, create_engine
from executor_manager.store.events import EventLog
from executor_manager.store.leases import Leases
from executor_manager.store.nodes import Nodes
from executor_manager.store.questions import Questions
from executor_manager.store.queue import Queue
from executor_manager.store.runs import Runs
from executor_manager.store.schema import upgrade
from executor_manager.store.sessions import Sessions
from executor_manager.store.vault import Vault

LEASE_SECONDS: Final = 30.0
"""Three heartbeats of the interval that a register grants."""

LOST_AFTER_SECONDS: Final = 24 * 3600.0
"""After this long without its node a run is lost: as long as an executor's outbox holds."""


class Store:
    """Everything the manager knows, behind one part per subject."""

    def __init__(
        self,
        database: Database,
        vault: Vault,
        *,
        lease_seconds: float,
        lost_after_seconds: float,
    ) -> None:
        self.sessions = Sessions(database)
        self.runs = Runs(database, vault)
        self.events = EventLog(database, lease_seconds)
        self.questions = Questions(database, vault)
        self.nodes = Nodes(database, lease_seconds)
        self.queue = Queue(database, lease_seconds)
        self.leases = Leases(database, lease_seconds, lost_after_seconds)

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        url: str,
        key: bytes,
        changes: Changes,
        *,
        lease_seconds: float = LEASE_SECONDS,
        lost_after_seconds: float = LOST_AFTER_SECONDS,
    ) -> AsyncIterator[Self]:
        """Open the database, with its schema brought up to date.

        Leaving the context commits what was appended, and closes every connection. Should the
        event log's writer ever end by an error, the body is cancelled and the error leaves in an
        ``ExceptionGroup``: appends would wait for ever.

        Args:
            url: ``sqlite+aiosqlite:///`` and the path of the file.
            key: What request secrets are encrypted with; see :class:`Vault`.
            changes: Told of every committed change.
        """
        await asyncio.to_thread(upgrade, url)
        engine = create_engine(url)
        store = cls(
            Database(engine, changes),
            Vault(key),
            lease_seconds=lease_seconds,
            lost_after_seconds=lost_after_seconds,
        )
        try:
            async with asyncio.TaskGroup() as group:
                writer = group.create_task(store.events.write_forever(), name="event log")
                yield store
                await store.events.drain()
                writer.cancel()
        finally:
            await engine.dispose()
