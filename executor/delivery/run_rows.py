"""Accepted runs as rows of SQLite, without their requests.

Functions of a connection; the transaction is the caller's.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

from shared.protocol.events import RunKey, RunRef, Source


@dataclass(frozen=True, slots=True)
class RunRecord:
    """What persists of an accepted run; its request does not, since it holds secrets."""

    run: RunRef
    state: Literal["queued", "running", "finished"]
    """``queued``: accepted, nothing told yet."""
    last_seq: int
    progress: int
    sdk_session_id: str | None
    open_messages: Mapping[str, Source | None]
    """Messages that have begun and not ended, with where they come from."""
    open_questions: Collection[str] = ()
    """Ids of what the user was asked, and nobody has answered."""
    origin: int | None = None
    """The origin of its last event that has one; what follows it was not told here."""
    used_s: float = 0.0
    """For how long it has been carried out, or followed, in seconds."""
    limit_s: float | None = None
    """How long it may take in all; ``None``: nobody has said so far."""
    seen_at: float | None = None
    """When *used_s* was written, by the monotonic clock; it means nothing after a restart of the
    system. ``None``: never."""


@dataclass(frozen=True, slots=True)
class Spending:
    """What an unfinished run has used of its limits, as far as that is known while it goes on."""

    turns: int
    """How often the model has answered."""
    cost_before_usd: float
    """What its conversation had cost when it began."""


def accept(db: sqlite3.Connection, run: RunRef) -> None:
    """Write an accepted run down, as one that has told nothing."""
    db.execute(
        "INSERT OR REPLACE INTO runs (subtask_id, attempt, ids) VALUES (?, ?, ?)",
        (*run.key, json.dumps([run.task_id, run.subtask_id])),
    )


def delete(db: sqlite3.Connection, key: RunKey) -> None:
    """Delete a run and everything it has told."""
    for table in ("runs", "open_messages", "open_questions", "events"):
        db.execute(f"DELETE FROM {table} WHERE subtask_id = ? AND attempt = ?", key)  # noqa: S608


def forget_finished(db: sqlite3.Connection, before: float) -> None:
    """Delete the runs that had ended by *before*, unless some of what they told is to be sent."""
    old = db.execute(
        "SELECT subtask_id, attempt FROM runs WHERE finished_at < ? AND NOT EXISTS"
        " (SELECT 1 FROM events WHERE events.subtask_id = runs.subtask_id"
        "  AND events.attempt = runs.attempt)",
        (before,),
    ).fetchall()
    for key in old:
        delete(db, key)


def read_all(db: sqlite3.Connection) -> list[RunRecord]:
    """Every run that is known, in the order of acceptance."""
    messages: dict[RunKey, dict[str, Source | None]] = {}
    for subtask_id, attempt, message_id, text in db.execute(
        "SELECT subtask_id, attempt, message_id, source FROM open_messages"
    ):
        source = json.loads(text)
        messages.setdefault((subtask_id, attempt), {})[message_id] = (
            Source(**source) if source else None
        )
    questions: dict[RunKey, list[str]] = {}
    for subtask_id, attempt, request_id in db.execute("SELECT * FROM open_questions"):
        questions.setdefault((subtask_id, attempt), []).append(request_id)
    rows = db.execute(
        "SELECT subtask_id, attempt, ids, state, last_seq, progress, sdk_session_id, origin,"
        " used_s, limit_s, seen_at FROM runs ORDER BY rowid"
    )
    return [
        RunRecord(
            _ref(ids, attempt),
            state,
            last_seq,
            progress,
            sdk_session_id,
            messages.get((subtask_id, attempt), {}),
            questions.get((subtask_id, attempt), ()),
            *others,
        )
        for subtask_id, attempt, ids, state, last_seq, progress, sdk_session_id, *others in rows
    ]


def read_spending(db: sqlite3.Connection, key: RunKey) -> Spending | None:
    """What a run has used so far; ``None`` when its agent has not begun yet."""
    row = db.execute(
        "SELECT turns, cost_before_usd FROM runs"
        " WHERE subtask_id = ? AND attempt = ? AND turns IS NOT NULL",
        key,
    ).fetchone()
    return Spending(*row) if row is not None else None


def write_spending(db: sqlite3.Connection, key: RunKey, spending: Spending) -> None:
    """Write down what a run has used."""
    db.execute(
        "UPDATE runs SET turns = ?, cost_before_usd = ? WHERE subtask_id = ? AND attempt = ?",
        (spending.turns, spending.cost_before_usd, *key),
    )


def read_used_s(db: sqlite3.Connection, key: RunKey) -> float:
    """For how long a run has been carried out, in seconds, as it was written down last."""
    row = db.execute("SELECT used_s FROM runs WHERE subtask_id = ? AND attempt = ?", key).fetchone()
    return 0.0 if row is None else float(row[0])


def write_time(
    db: sqlite3.Connection, key: RunKey, used_s: float, limit_s: float | None, seen_at: float
) -> None:
    """Write down how much of its time a run has used.

    *limit_s* is how long it may take in all; ``None``: as it was. *seen_at* is when, by the
    monotonic clock.
    """
    db.execute(
        "UPDATE runs SET used_s = ?, limit_s = coalesce(?, limit_s), seen_at = ?"
        " WHERE subtask_id = ? AND attempt = ?",
        (used_s, limit_s, seen_at, *key),
    )


def _ref(ids: str, attempt: int) -> RunRef:
    task_id, subtask_id = json.loads(ids)
    return RunRef(task_id, subtask_id, attempt)
