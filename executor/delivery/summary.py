"""What ``state.db`` holds, in numbers: for whoever looks for a fault and must see no contents."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, Final

PATIENCE_S: Final = 2.0
"""How long to wait for a running executor that is just changing the file."""


def summarize(path: Path) -> dict[str, Any]:
    """Count what is in the file at *path*; nothing is changed, and an executor may be running.

    Raises:
        OSError, sqlite3.Error: There is no such file, or it cannot be read.
    """
    size = path.stat().st_size
    with closing(
        sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=PATIENCE_S)
    ) as db:
        return {
            "file_bytes": size,
            "version": _one(db, "PRAGMA user_version"),
            "integrity": _one(db, "PRAGMA quick_check(1)"),
            "sessions": _one(db, "SELECT count(*) FROM sessions"),
            "runs": _counts(db, "SELECT state, count(*) FROM runs GROUP BY state"),
            "verdicts": _counts(
                db,
                "SELECT verdict_type, count(*) FROM runs WHERE verdict_type IS NOT NULL"
                " GROUP BY verdict_type",
            ),
            "events_waiting": _counts(db, "SELECT type, count(*) FROM events GROUP BY type"),
            "events_waiting_bytes": _one(db, "SELECT bytes FROM outbox_size"),
            # By the executor's own clock, which stands while it does not run.
            "oldest_event_waits_s": _one(
                db, "SELECT max(0, (SELECT seconds FROM clock) - min(created_at)) FROM events"
            ),
            "callbacks": _counts(db, "SELECT state, count(*) FROM callbacks GROUP BY state"),
            "open_messages": _one(db, "SELECT count(*) FROM open_messages"),
            "open_questions": _one(db, "SELECT count(*) FROM open_questions"),
        }


def _one(db: sqlite3.Connection, query: str) -> Any:
    (value,) = db.execute(query).fetchone()
    return value


def _counts(db: sqlite3.Connection, query: str) -> dict[str, int]:
    return dict(db.execute(query).fetchall())
