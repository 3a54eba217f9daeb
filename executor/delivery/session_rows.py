"""Sessions as rows of SQLite.

Functions of a connection; the transaction is the caller's.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path


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
    in_container: bool = False
    """Whether its last run was in a container, whose executor knows the rest; ``cwd`` is then the
    session's directory."""


def read(db: sqlite3.Connection, task_id: str) -> SessionRecord | None:
    """What is known of a session; ``None`` when it has never run here."""
    row = db.execute(
        "SELECT agent_type, sdk_session_id, cwd, config_dir, in_container FROM sessions"
        " WHERE task_id = ?",
        (task_id,),
    ).fetchone()
    if row is None:
        return None
    agent_type, sdk_session_id, cwd, config_dir, in_container = row
    return SessionRecord(
        task_id,
        agent_type,
        sdk_session_id,
        Path(cwd),
        Path(config_dir) if config_dir else None,
        bool(in_container),
    )


def write(db: sqlite3.Connection, record: SessionRecord) -> None:
    """Write a session down, in the place of what was known of it."""
    db.execute(
        "INSERT INTO sessions"
        " (task_id, agent_type, sdk_session_id, cwd, config_dir, in_container)"
        " VALUES (?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (task_id) DO UPDATE SET agent_type = excluded.agent_type,"
        " sdk_session_id = excluded.sdk_session_id, cwd = excluded.cwd,"
        " config_dir = excluded.config_dir, in_container = excluded.in_container,"
        " updated_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now')",
        (
            record.task_id,
            record.agent_type,
            record.sdk_session_id,
            str(record.cwd),
            str(record.config_dir) if record.config_dir else None,
            int(record.in_container),
        ),
    )
