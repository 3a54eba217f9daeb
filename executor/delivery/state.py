"""The executor's own small state: ``{home}/state.db``, SQLite, 0600.

All SQL of the executor is here. One thread of its own does the I/O, so that the event loop never
waits for a disk; writes take effect in the order of the calls.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self, TypeVar

from shared.errors import ConfigError
from shared.logging import get_logger

logger = get_logger("state")

T = TypeVar("T")

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS sessions (
    task_id        TEXT PRIMARY KEY,
    agent_type     TEXT NOT NULL,
    sdk_session_id TEXT,
    cwd            TEXT NOT NULL,
    config_dir     TEXT,
    updated_at     TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
) STRICT;
"""
_SCHEMA_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """What persists of a session between its runs.

    ``cwd`` and ``config_dir`` are fixed by the first run: the agent finds its conversation by them.
    ``config_dir`` is ``None`` for the user's own; ``sdk_session_id`` until the agent has told it.
    """

    task_id: str
    agent_type: str
    sdk_session_id: str | None
    cwd: Path
    config_dir: Path | None


class StateStore:
    """Opened once per process; :meth:`close` finishes what was asked before it."""

    def __init__(self, connection: sqlite3.Connection, thread: ThreadPoolExecutor) -> None:
        """Use :meth:`open`."""
        self._connection = connection
        self._thread = thread

    @classmethod
    async def open(cls, path: Path) -> Self:
        """Open or make the database.

        Raises:
            ConfigError: It cannot be used; says why and what to do.
        """
        thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="state")
        loop = asyncio.get_running_loop()
        try:
            connection = await loop.run_in_executor(thread, _connect, path)
        except (OSError, sqlite3.Error) as exc:
            thread.shutdown(wait=False)
            raise ConfigError(
                f"cannot open {path}: {exc}",
                hint="make WEGENT_EXECUTOR_HOME writable, or move the damaged file away",
            ) from exc
        return cls(connection, thread)

    async def session(self, task_id: int | str) -> SessionRecord | None:
        """What is known of a session; ``None`` when it has never run here."""
        return await self._ask(lambda db: _read_session(db, str(task_id)))

    def save_session(self, record: SessionRecord) -> None:
        """Write a session down; returns before it is on disk, an error is logged."""
        self._tell(lambda db: _write_session(db, record))

    async def close(self) -> None:
        """Finish all writes and close the file."""
        await self._ask(lambda db: db.close())
        self._thread.shutdown(wait=False)

    async def _ask(self, work: Callable[[sqlite3.Connection], T]) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, work, self._connection)

    def _tell(self, work: Callable[[sqlite3.Connection], object]) -> None:
        def log_failure(done: Future[object]) -> None:
            if (error := done.exception()) is not None:
                logger.error("state not written: %s", error)

        self._thread.submit(work, self._connection).add_done_callback(log_failure)


def _connect(path: Path) -> sqlite3.Connection:
    # Made with the right mode before SQLite opens it; its side files inherit the mode.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    path.chmod(0o600)
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.executescript(_SCHEMA)
    connection.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
    return connection


def _read_session(db: sqlite3.Connection, task_id: str) -> SessionRecord | None:
    row = db.execute(
        "SELECT agent_type, sdk_session_id, cwd, config_dir FROM sessions WHERE task_id = ?",
        (task_id,),
    ).fetchone()
    if row is None:
        return None
    agent_type, sdk_session_id, cwd, config_dir = row
    return SessionRecord(
        task_id, agent_type, sdk_session_id, Path(cwd), Path(config_dir) if config_dir else None
    )


def _write_session(db: sqlite3.Connection, record: SessionRecord) -> None:
    db.execute(
        "INSERT INTO sessions (task_id, agent_type, sdk_session_id, cwd, config_dir)"
        " VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (task_id) DO UPDATE SET agent_type = excluded.agent_type,"
        " sdk_session_id = excluded.sdk_session_id, cwd = excluded.cwd,"
        " config_dir = excluded.config_dir, updated_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now')",
        (
            record.task_id,
            record.agent_type,
            record.sdk_session_id,
            str(record.cwd),
            str(record.config_dir) if record.config_dir else None,
        ),
    )
