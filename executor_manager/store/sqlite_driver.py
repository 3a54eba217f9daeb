"""The driver of SQLite, with one step of its thread for a statement instead of four.

Each step wakes the thread and then the event loop, which under load takes longer than the
statement: a cursor for SQLAlchemy is made, executed, read and closed one by one otherwise. And a
caller who is cancelled in between leaves the cursor open, and with it its transaction: the
database stays locked.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from typing import Any, Literal, Self

import aiosqlite


async def connect(database: str) -> aiosqlite.Connection:
    """Open the file *database*; for the ``async_creator`` of SQLAlchemy, which closes it."""
    # The thread is not the one that sets the connection up.
    connection = _Connection(lambda: sqlite3.connect(database, check_same_thread=False), 64)
    connection._thread.daemon = True  # noqa: SLF001 - one that is never closed must not hold the exit
    return await connection


class _Connection(aiosqlite.Connection):
    _stopped: asyncio.Future[Any] | None = None

    def stop(self) -> asyncio.Future[Any] | None:
        # SQLAlchemy closes what a cancellation has broken off, and stops it when that is cancelled
        # as well: a second time there is no thread any more that would answer.
        if self._stopped is None:
            self._stopped = super().stop()
        return self._stopped

    async def close(self) -> None:
        stopped = self.stop()  # closes it in its thread
        if stopped is not None:
            await asyncio.shield(stopped)

    def cursor(self) -> _Cursor:  # type: ignore[override]  # what SQLAlchemy needs of one
        return _Cursor(self)

    async def rollback(self) -> None:
        # The pool asks for it after every use. One whose transaction a cancellation left in the
        # thread is never used again.
        if self._conn.in_transaction:
            await super().rollback()

    async def run(self, how: Literal["execute", "executemany"], sql: str, values: Any) -> _Result:
        """Carry a statement out, and fetch all that it gives."""
        done: _Result = await self._execute(_run, self._conn, how, sql, values)  # type: ignore[no-untyped-call]
        return done


class _Result:
    __slots__ = ("description", "lastrowid", "rowcount", "rows")

    def __init__(self, cursor: sqlite3.Cursor) -> None:
        self.rows: Sequence[Any] = cursor.fetchall() if cursor.description else ()
        self.description = cursor.description
        self.rowcount = cursor.rowcount
        self.lastrowid = cursor.lastrowid


def _run(connection: sqlite3.Connection, how: str, sql: str, values: Any) -> _Result:
    cursor = connection.cursor()
    try:
        getattr(cursor, how)(sql, values)
        return _Result(cursor)
    finally:
        cursor.close()


class _Cursor:
    """The part of the interface that SQLAlchemy uses of a cursor whose rows are fetched at once."""

    arraysize = 1

    def __init__(self, connection: _Connection) -> None:
        self._connection = connection
        self._result: _Result | None = None

    @property
    def description(self) -> Any:
        return None if self._result is None else self._result.description

    @property
    def rowcount(self) -> int:
        return -1 if self._result is None else self._result.rowcount

    @property
    def lastrowid(self) -> int | None:
        return None if self._result is None else self._result.lastrowid

    async def __aenter__(self) -> Self:
        return self

    async def execute(self, sql: str, values: Any = ()) -> None:
        self._result = await self._connection.run("execute", sql, values)

    async def executemany(self, sql: str, values: Any) -> None:
        self._result = await self._connection.run("executemany", sql, values)

    async def fetchall(self) -> Sequence[Any]:
        return () if self._result is None else self._result.rows

    async def close(self) -> None:
        self._result = None
