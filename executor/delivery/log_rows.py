"""The events table as a log that is read by run: functions of a connection."""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from executor.delivery.event_rows import decode
from shared.protocol.events import NumberedEvent, RunKey, RunRef

PAGE_BYTES: Final = 1024 * 1024
"""What is read at once; every reader that does not read on has so much in memory."""

_OF_A_RUN: Final = ("runs", "open_messages", "open_questions")


@dataclass(frozen=True, slots=True)
class Kept:
    """What a log begins with."""

    accepted: dict[str, int]
    """The newest attempt of each run that is known."""
    last_seqs: dict[str, list[tuple[int, int]]]
    """Of each run that has told something: its attempts in order, each with its last number."""
    last_position: int
    shortened: list[tuple[RunRef, int]]
    """Runs without a verdict that may have told more than is written, with their progress."""


@dataclass(frozen=True, slots=True)
class RunRow:
    """How an attempt stands by what it has told."""

    ids: str
    attempt: int
    state: str
    last_seq: int
    progress: int
    verdict: NumberedEvent | None


def forget_old(db: sqlite3.Connection, before: float) -> None:
    """Forget the runs that had ended by *before*, and what belongs to no run that is known."""
    old = db.execute(
        "SELECT subtask_id FROM runs GROUP BY subtask_id"
        " HAVING count(*) = count(finished_at) AND max(finished_at) < ?"
        " UNION SELECT DISTINCT subtask_id FROM events WHERE NOT EXISTS"
        " (SELECT 1 FROM runs WHERE runs.subtask_id = events.subtask_id)",
        (before,),
    ).fetchall()
    for (run_id,) in old:
        forget(db, run_id)
    db.execute("DELETE FROM callbacks WHERE run_id NOT IN (SELECT subtask_id FROM runs)")


def forget(db: sqlite3.Connection, run_id: str) -> None:
    """Delete all that is kept of a run, of all its attempts."""
    for table in (*_OF_A_RUN, "events"):
        db.execute(f"DELETE FROM {table} WHERE subtask_id = ?", (run_id,))  # noqa: S608
    db.execute("DELETE FROM callbacks WHERE run_id = ?", (run_id,))


def forget_attempt(db: sqlite3.Connection, key: RunKey) -> None:
    """Delete what is known of an attempt, but for what it has told."""
    for table in _OF_A_RUN:
        db.execute(f"DELETE FROM {table} WHERE subtask_id = ? AND attempt = ?", key)  # noqa: S608


def begin(db: sqlite3.Connection, boot_id: str | None) -> Kept:
    """Which runs are known, and how much they have told; the log is open from now on.

    *boot_id*: which run of the operating system this is; ``None``: it cannot be told.
    """
    opened = db.execute("SELECT boot_id FROM log_open").fetchone()
    end(db)
    if boot_id is not None:
        db.execute("INSERT INTO log_open VALUES (?)", (boot_id,))
    # The system has ended under the log: what it had not written through by then is gone.
    lossy = opened is not None and opened != (boot_id,)
    last_seqs: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for run_id, attempt, seq in db.execute(
        "SELECT subtask_id, attempt, max(seq) FROM events GROUP BY subtask_id, attempt"
        " ORDER BY subtask_id, attempt"
    ):
        last_seqs[run_id].append((attempt, seq))
    accepted = dict(
        db.execute("SELECT subtask_id, max(attempt) FROM runs GROUP BY subtask_id").fetchall()
    )
    (position,) = db.execute("SELECT coalesce(max(position), 0) FROM events").fetchone()
    return Kept(accepted, dict(last_seqs), position, _unfinished(db) if lossy else [])


def end(db: sqlite3.Connection) -> None:
    """The log is closed: what is written before this is all there was."""
    db.execute("DELETE FROM log_open")


def _unfinished(db: sqlite3.Connection) -> list[tuple[RunRef, int]]:
    rows = db.execute("SELECT ids, attempt, progress FROM runs WHERE state != 'finished'")
    return [
        (RunRef(task_id, subtask_id, attempt), progress)
        for ids, attempt, progress in rows
        for task_id, subtask_id in [json.loads(ids)]
    ]


def read_after(
    db: sqlite3.Connection, keys: Iterable[tuple[RunKey, int]], limit: int
) -> list[tuple[NumberedEvent, float]]:
    """The events of each key after its number, in order, each with when it was written.

    At most *limit* of all together, and no more once they take :data:`PAGE_BYTES`.
    """
    found: list[tuple[NumberedEvent, float]] = []
    size = 0
    for (run_id, attempt), seq in keys:
        rows = db.execute(
            "SELECT seq, type, body, size, created_at FROM events"
            " WHERE subtask_id = ? AND attempt = ? AND seq > ? ORDER BY seq LIMIT ?",
            (run_id, attempt, seq, limit - len(found)),
        )
        for number, type_, body, bytes_, created_at in rows:
            found.append((decode(attempt, number, type_, body), created_at))
            size += bytes_
            if size >= PAGE_BYTES:
                return found
    return found


def read_run(db: sqlite3.Connection, run_id: str) -> RunRow | None:
    """How the newest attempt of a run stands; ``None`` when the run is not known."""
    row = db.execute(
        "SELECT ids, attempt, state, last_seq, progress, verdict_type, verdict FROM runs"
        " WHERE subtask_id = ? ORDER BY attempt DESC LIMIT 1",
        (run_id,),
    ).fetchone()
    if row is None:
        return None
    ids, attempt, state, last_seq, progress, type_, body = row
    verdict = decode(attempt, last_seq, type_, body) if type_ is not None else None
    return RunRow(ids, attempt, state, last_seq, progress, verdict)
