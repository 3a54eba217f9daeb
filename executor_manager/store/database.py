"""Engine, transactions and the database's clock.

SQLite has one writer at a time, so writes queue here instead of in SQLite's busy handler, which
would make them wait by sleeping. Readers never wait: the journal is write-ahead.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Protocol

from sqlalchemy import Connection, Double, event, make_url, select
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.pool import ConnectionPoolEntry
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from executor_manager.store import sqlite_driver
from shared.errors import WegentError

BUSY_TIMEOUT_MS: Final = 10_000
"""How long a write waits for a writer of another process."""

_IMMEDIATE: Final = "wegent_immediate"

logger = logging.getLogger(__name__)


class StoreError(WegentError):
    """The database cannot be used at the moment; nothing of the transaction is in it."""

    code = "store_unavailable"


class Changes(Protocol):
    """Who wants to know what a committed transaction changed; must not block."""

    def run_changed(self, run_id: str) -> None:
        """The run's log or state has grown."""

    def queue_changed(self) -> None:
        """There may be something to claim or to tell a node."""


class _DatabaseNow(FunctionElement[float]):
    type = Double()
    inherit_cache = True
    name = "database_now"


DATABASE_NOW: Final = _DatabaseNow()
"""Seconds since the epoch by the database's clock, as a part of a statement."""


@compiles(_DatabaseNow, "sqlite")
def _sqlite_now(_element: _DatabaseNow, _compiler: SQLCompiler, **_: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(_DatabaseNow, "postgresql")
def _postgresql_now(_element: _DatabaseNow, _compiler: SQLCompiler, **_: Any) -> str:
    return "extract(epoch from clock_timestamp())"


@dataclass(slots=True)
class Transaction:
    """A write in progress; what it notes as changed is told after its commit."""

    connection: AsyncConnection
    _runs: set[str] = field(default_factory=set)
    _queue: bool = False

    def run_changed(self, *run_ids: str) -> None:
        """Tell followers of these runs after the commit."""
        self._runs.update(run_ids)

    def queue_changed(self) -> None:
        """Wake the dispatcher after the commit."""
        self._queue = True

    def tell(self, changes: Changes) -> None:
        """Pass on what was noted."""
        for run_id in self._runs:
            changes.run_changed(run_id)
        if self._queue:
            changes.queue_changed()


class Database:
    """One database: read and write transactions."""

    def __init__(self, engine: AsyncEngine, changes: Changes) -> None:
        self._engine = engine
        self._writer = engine.execution_options(**{_IMMEDIATE: True})
        self._changes = changes
        self._one_writer = asyncio.Lock()

    async def now(self) -> float:
        """Seconds since the epoch, by the database's clock; waits for no writer."""
        async with self.read() as connection:
            return float((await connection.execute(select(DATABASE_NOW))).scalar_one())

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """Each statement sees what is committed when it begins; nothing may be written.

        Raises:
            StoreError: The database cannot be used; trying again later may help.
        """
        with _failures():
            async with self._engine.connect() as connection:
                yield connection

    @asynccontextmanager
    async def write(self) -> AsyncIterator[Transaction]:
        """Commits at the end of the block, rolls back when it raises.

        Raises:
            StoreError: The database cannot be used; trying again later may help.
        """
        async with self._one_writer:
            with _failures():
                async with self._writer.begin() as connection:
                    transaction = Transaction(connection)
                    yield transaction
            transaction.tell(self._changes)


@contextmanager
def _failures() -> Iterator[None]:
    try:
        yield
    except (OperationalError, PoolTimeout) as exc:
        reason = exc.orig if isinstance(exc, OperationalError) else "all connections are in use"
        logger.error("the database cannot be used: %s", reason)  # noqa: TRY400 - it is passed on
        raise StoreError(
            f"the store cannot be used at the moment: {reason}", hint="see the manager's log"
        ) from exc


def create_engine(url: str) -> AsyncEngine:
    """The engine for *url*, e.g. ``sqlite+aiosqlite:////var/lib/x/manager.db``."""
    options: dict[str, Any] = {}
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        options["async_creator"] = partial(sqlite_driver.connect, parsed.database or "")
    # Errors would repeat parameters, and with them prompts, in tracebacks.
    engine = create_async_engine(parsed, json_serializer=to_json, hide_parameters=True, **options)
    if engine.dialect.name == "sqlite":
        event.listen(engine.sync_engine, "connect", prepare_sqlite)
        event.listen(engine.sync_engine, "begin", _begin_sqlite)
    return engine


def to_json(value: Any) -> str:
    """The form in which JSON is stored."""
    # Half of a surrogate pair is valid JSON on the wire but cannot be stored as UTF-8.
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "replace").decode()


def prepare_sqlite(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
    """Set up a new connection; transactions are for the listener of ``begin`` to begin."""
    # The driver would begin them by itself, and late.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode = WAL")
    # An accepted task and a verdict must survive a power cut; commits are grouped, so it is cheap.
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    # A statement that only reads needs no transaction, and to begin one costs as much as it does.
    if connection.get_execution_options().get(_IMMEDIATE, False):
        begin_immediate(connection)


def begin_immediate(connection: Connection) -> None:
    """Begin as a writer: one that reads first and then writes can fail when another one wrote."""
    connection.exec_driver_sql("BEGIN IMMEDIATE")
