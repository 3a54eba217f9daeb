"""Which sessions have ever run here."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass

from executor.delivery.state import StateStore


@dataclass(frozen=True, slots=True)
class KnownSession:
    """What is written down of a session; all but its id is ``None`` when no agent has begun yet."""

    session_id: str
    agent_type: str | None = None
    sdk_session_id: str | None = None
    cwd: str | None = None
    updated_at: str | None = None
    """UTC."""


async def known_sessions(store: StateStore) -> list[KnownSession]:
    """All of them, the one that ran last first; those behind in which no agent has begun yet."""

    def read(db: sqlite3.Connection) -> list[KnownSession]:
        rows = db.execute(
            "SELECT task_id, agent_type, sdk_session_id, cwd, updated_at FROM sessions"
            " ORDER BY updated_at DESC, task_id"
        )
        known = {row[0]: KnownSession(*row) for row in rows}
        for (ids,) in db.execute("SELECT ids FROM runs ORDER BY rowid DESC"):
            session_id = str(json.loads(ids)[0])
            known.setdefault(session_id, KnownSession(session_id))
        return list(known.values())

    return await store.submit(read)
