"""Which sessions have ever run here."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from executor.delivery.state import StateStore


@dataclass(frozen=True, slots=True)
class KnownSession:
    """What is written down of a session."""

    session_id: str
    agent_type: str
    sdk_session_id: str | None
    cwd: str
    updated_at: str
    """UTC."""


async def known_sessions(store: StateStore) -> list[KnownSession]:
    """All of them, the one that ran last first."""

    def read(db: sqlite3.Connection) -> list[KnownSession]:
        rows = db.execute(
            "SELECT task_id, agent_type, sdk_session_id, cwd, updated_at FROM sessions"
            " ORDER BY updated_at DESC, task_id"
        )
        return [KnownSession(*row) for row in rows]

    return await store.submit(read)
