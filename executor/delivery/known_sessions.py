"""Which sessions have ever run here, and which of them were closed."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from executor.delivery.state import StateStore

UNUSED_KEPT_DAYS: Final = 30
"""How long Claude Code, by its own default, and agno keep a conversation nobody goes on with."""


@dataclass(frozen=True, slots=True)
class KnownSession:
    """What is written down of a session; all but its id is ``None`` when no agent has begun yet."""

    session_id: str
    agent_type: str | None = None
    sdk_session_id: str | None = None
    cwd: str | None = None
    updated_at: str | None = None
    """UTC."""
    closed: bool = False
    """A request has closed it, and it has had no run since."""


async def known_sessions(store: StateStore) -> list[KnownSession]:
    """All of them, the one that ran last first; those behind in which no agent has begun yet."""

    def read(db: sqlite3.Connection) -> list[KnownSession]:
        rows = db.execute(
            "SELECT task_id, agent_type, sdk_session_id, cwd, updated_at FROM sessions"
            " ORDER BY updated_at DESC, task_id"
        )
        closed = {row[0] for row in db.execute("SELECT task_id FROM closed_sessions")}
        known = {
            session_id: KnownSession(
                session_id, kind, conversation, cwd, time, session_id in closed
            )
            for session_id, kind, conversation, cwd, time in rows
        }
        for (ids,) in db.execute("SELECT ids FROM runs ORDER BY rowid DESC"):
            session_id = str(json.loads(ids)[0])
            known.setdefault(session_id, KnownSession(session_id, closed=session_id in closed))
        return list(known.values())

    return await store.submit(read)


def forget_sessions(store: StateStore, folders: Collection[str]) -> None:
    """Forget those of which nothing is left that a run could go on with.

    None of their runs is known, none has begun for :data:`UNUSED_KEPT_DAYS`, and their folder is
    gone: *folders* are the names of those that are there. Returns before that is on disk, an error
    is logged.
    """
    there = {name.casefold() for name in folders}  # some systems ignore case

    def forget(db: sqlite3.Connection) -> None:
        running = {str(json.loads(ids)[0]) for (ids,) in db.execute("SELECT ids FROM runs")}
        unused = db.execute(
            "SELECT task_id FROM sessions WHERE updated_at < strftime('%Y-%m-%dT%H:%M:%fZ', 'now',"
            " ?)",
            (f"-{UNUSED_KEPT_DAYS} days",),
        ).fetchall()
        gone = [row for row in unused if row[0] not in running and row[0].casefold() not in there]
        db.executemany("DELETE FROM sessions WHERE task_id = ?", gone)
        closed = db.execute(
            "SELECT task_id FROM closed_sessions"
            " WHERE task_id NOT IN (SELECT task_id FROM sessions)"
        ).fetchall()
        ended = [row for row in closed if row[0] not in running]
        db.executemany("DELETE FROM closed_sessions WHERE task_id = ?", ended)

    store.tell(forget)


def close_sessions(store: StateStore, session_ids: Collection[str]) -> None:
    """Note that they were closed; returns before that is on disk, an error is logged."""
    rows = [(session_id,) for session_id in session_ids]
    store.tell(lambda db: db.executemany("INSERT OR IGNORE INTO closed_sessions VALUES (?)", rows))


def reopen_session(store: StateStore, session_id: str) -> None:
    """Forget that it was closed; returns before that is on disk, an error is logged."""
    store.tell(
        lambda db: db.execute("DELETE FROM closed_sessions WHERE task_id = ?", (session_id,))
    )
