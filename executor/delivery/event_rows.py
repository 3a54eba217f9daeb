"""Events as rows of SQLite: written, read in order, deleted, and put in the place of lost ones.

Functions of a connection; the transaction is the caller's.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from shared.protocol.events import (
    TERMINAL_EVENTS,
    AgentEvent,
    EventType,
    NumberedEvent,
    RunKey,
    RunRef,
    Source,
)

ROW_BYTES: Final = 160
"""What a row takes beside its body: its columns and its place in the index, roughly."""

_CHUNKS: Final = (64, 8, 1)
"""Rows per INSERT. Each statement makes its thread wait for the interpreter once, which under load
costs far more than the statement."""

_ROW: Final = "(?, ?, ?, ?, ?, ?, ?, ?, ?)"
_INSERT: Final = {
    count: f"INSERT OR REPLACE INTO events VALUES {', '.join([_ROW] * count)}"  # noqa: S608
    for count in _CHUNKS
}

Placed = tuple[int, NumberedEvent]
"""An event with its position among all events."""


@dataclass(frozen=True, slots=True)
class Held:
    """What is stored of one run: its events from *first* to *last*, the ends included."""

    run: RunRef
    first: int
    last: int
    ended: bool
    """Whether the last is its verdict."""


def insert_events(db: sqlite3.Connection, placed: Sequence[Placed], now: float) -> None:
    """Write events, and what they say about their runs."""
    placed = [(position, _knowing_its_losses(db, event)) for position, event in placed]
    rows = [event_row(position, event, now) for position, event in placed]
    start = 0
    for count in _CHUNKS:
        while len(rows) - start >= count:
            chunk = rows[start : start + count]
            db.execute(_INSERT[count], [value for row in chunk for value in row])
            start += count
    last: dict[RunKey, tuple[NumberedEvent, Any]] = {}
    origins: dict[RunKey, int] = {}
    for (_, event), row in zip(placed, rows, strict=True):
        last[event.run.key] = (event, row)
        if event.event.origin is not None:
            origins[event.run.key] = event.event.origin
        _note_what_is_open(db, event)
    for key, (event, row) in last.items():
        _note_progress(db, key, event, body=row[6], now=now)
    for key, origin in origins.items():
        db.execute(
            "UPDATE runs SET origin = ? WHERE subtask_id = ? AND attempt = ?", (origin, *key)
        )


def event_row(position: int, event: NumberedEvent, now: float) -> tuple[Any, ...]:
    """The columns of ``events`` for one event."""
    body = encode(event)
    covers_from = event.seq
    if event.event.type == EventType.TRUNCATED:
        covers_from = event.event.data.get("covers_from", event.seq)
    return (
        position,
        *event.run.key,
        event.seq,
        covers_from,
        event.event.type,
        body,
        len(body.encode()) + ROW_BYTES,
        now,
    )


def _knowing_its_losses(db: sqlite3.Connection, event: NumberedEvent) -> NumberedEvent:
    """The end of a message says so when some of its chunks were dropped meanwhile."""
    if event.event.type != EventType.LLM_DONE:
        return event
    lossy = db.execute(
        "SELECT 1 FROM open_messages"
        " WHERE subtask_id = ? AND attempt = ? AND message_id = ? AND truncated",
        (*event.run.key, event.event.data.get("message_id", "")),
    ).fetchone()
    return event if lossy is None else mark_truncated(event)


def mark_truncated(event: NumberedEvent) -> NumberedEvent:
    """The end of a message, saying that some of it is missing."""
    data = {**event.event.data, "truncated": True}
    return replace(event, event=replace(event.event, data=data))


def _note_what_is_open(db: sqlite3.Connection, event: NumberedEvent) -> None:
    key, agent_event = event.run.key, event.event
    match agent_event.type:
        case EventType.LLM_START:
            source = agent_event.source.to_dict() if agent_event.source else None
            db.execute(
                "INSERT OR REPLACE INTO open_messages VALUES (?, ?, ?, ?, 0)",
                (*key, agent_event.data.get("message_id", ""), json.dumps(source)),
            )
        case EventType.LLM_DONE | EventType.LLM_ERROR:
            db.execute(
                "DELETE FROM open_messages WHERE subtask_id = ? AND attempt = ? AND message_id = ?",
                (*key, agent_event.data.get("message_id", "")),
            )
        case EventType.INPUT_REQUIRED:
            db.execute(
                "INSERT OR REPLACE INTO open_questions VALUES (?, ?, ?)",
                (*key, agent_event.data.get("request_id", "")),
            )
        case EventType.INPUT_RESOLVED:
            db.execute(
                "DELETE FROM open_questions"
                " WHERE subtask_id = ? AND attempt = ? AND request_id = ?",
                (*key, agent_event.data.get("request_id", "")),
            )
        case EventType.SESSION:
            db.execute(
                "UPDATE runs SET sdk_session_id = ? WHERE subtask_id = ? AND attempt = ?",
                (agent_event.data.get("sdk_session_id"), *key),
            )
        case _:
            pass


def _note_progress(
    db: sqlite3.Connection, key: RunKey, last: NumberedEvent, *, body: str, now: float
) -> None:
    if last.event.terminal:
        db.execute(
            "UPDATE runs SET state = 'finished', last_seq = ?, progress = ?,"
            " verdict_type = ?, verdict = ?, finished_at = ?"
            " WHERE subtask_id = ? AND attempt = ?",
            (last.seq, last.progress, last.event.type, body, now, *key),
        )
    else:
        db.execute(
            "UPDATE runs SET state = 'running', last_seq = ?, progress = ?"
            " WHERE subtask_id = ? AND attempt = ?",
            (last.seq, last.progress, *key),
        )


def read_page(db: sqlite3.Connection, after: int, limit: int) -> list[Placed]:
    """The events that follow position *after*, in order."""
    return _read(db, "position > ? ORDER BY position LIMIT ?", (after, limit))


def read_run(db: sqlite3.Connection, key: RunKey, up_to: int) -> list[Placed]:
    """A run's events up to position *up_to*, in order."""
    return _read(db, "subtask_id = ? AND attempt = ? AND position <= ? ORDER BY seq", (*key, up_to))


def _read(db: sqlite3.Connection, where: str, values: Sequence[Any]) -> list[Placed]:
    query = f"SELECT position, attempt, seq, type, body FROM events WHERE {where}"  # noqa: S608
    return [
        (position, decode(attempt, seq, type_, body))
        for position, attempt, seq, type_, body in db.execute(query, values)
    ]


def delete_acknowledged(db: sqlite3.Connection, acked: Iterable[tuple[RunKey, int]]) -> None:
    """Forget the events of each run up to a ``seq``."""
    for (subtask_id, attempt), seq in acked:
        db.execute(
            "DELETE FROM events WHERE subtask_id = ? AND attempt = ? AND seq <= ?",
            (subtask_id, attempt, seq),
        )


def delete_run_events(db: sqlite3.Connection, key: RunKey) -> None:
    """Forget all events of a run."""
    db.execute("DELETE FROM events WHERE subtask_id = ? AND attempt = ?", key)


def insert_verdict(db: sqlite3.Connection, key: RunKey, position: int, now: float) -> None:
    """Put the verdict that is kept of a finished run among the events again."""
    db.execute(
        "INSERT OR REPLACE INTO events"
        " SELECT ?, subtask_id, attempt, last_seq, last_seq, verdict_type, verdict,"
        " length(CAST(verdict AS BLOB)) + ?, ? FROM runs"
        " WHERE subtask_id = ? AND attempt = ? AND verdict IS NOT NULL",
        (position, ROW_BYTES, now, *key),
    )


def fill_gap(
    db: sqlite3.Connection, run: RunRef, covers_from: int, seq: int, position: int, now: float
) -> None:
    """Put a placeholder for *covers_from* to *seq* before what is held of the run.

    *position* is for a run of which nothing is held. Otherwise it goes to the place before the
    run's first event, which is free: events take every second one.
    """
    first = db.execute(
        "SELECT position, seq, type FROM events WHERE subtask_id = ? AND attempt = ?"
        " ORDER BY seq LIMIT 1",
        run.key,
    ).fetchone()
    if first is not None and first[2] == EventType.TRUNCATED:
        position, seq = first[:2]  # it is widened
    elif first is not None:
        position = first[0] - 1
    placeholder = placeholder_for(run, covers_from, seq, progress=0)
    row = event_row(position, placeholder, now)
    db.execute(_INSERT[1], row)


def placeholder_for(run: RunRef, covers_from: int, seq: int, *, progress: int) -> NumberedEvent:
    """The event that stands for those from *covers_from* to *seq*."""
    data = {"covers_from": covers_from}
    return NumberedEvent(run, seq, AgentEvent(EventType.TRUNCATED, data), progress=progress)


def held(db: sqlite3.Connection) -> list[Held]:
    """What is stored of each run that has events."""
    rows = db.execute(
        "SELECT first.covers_from, last.attempt, last.seq, last.type, last.body"
        " FROM (SELECT subtask_id, attempt, min(seq) AS low, max(seq) AS high FROM events"
        "       GROUP BY subtask_id, attempt) AS run"
        " JOIN events AS first ON first.subtask_id = run.subtask_id"
        "      AND first.attempt = run.attempt AND first.seq = run.low"
        " JOIN events AS last ON last.subtask_id = run.subtask_id"
        "      AND last.attempt = run.attempt AND last.seq = run.high"
    )
    return [
        Held(decode(attempt, seq, type_, body).run, covers_from, seq, type_ in TERMINAL_EVENTS)
        for covers_from, attempt, seq, type_, body in rows
    ]


def last_position(db: sqlite3.Connection) -> int:
    """The highest position in use; 0 when there is no event."""
    (position,) = db.execute("SELECT coalesce(max(position), 0) FROM events").fetchone()
    return int(position)


def encode(event: NumberedEvent) -> str:
    """The columns' remainder as JSON: everything that is not in a column of its own."""
    agent_event = event.event
    return json.dumps(
        [
            event.run.task_id,
            event.run.subtask_id,
            agent_event.data,
            agent_event.source.to_dict() if agent_event.source else None,
            agent_event.timestamp,
            event.progress,
            event.task_title,
            event.subtask_title,
        ],
        ensure_ascii=False,
        separators=(",", ":"),
    )


def decode(attempt: int, seq: int, type_: str, body: str) -> NumberedEvent:
    """The inverse of :func:`encode`."""
    task_id, subtask_id, data, source, timestamp, progress, title, subtitle = json.loads(body)
    return NumberedEvent(
        RunRef(task_id, subtask_id, attempt),
        seq,
        AgentEvent(type_, data, Source(**source) if source else None, timestamp),
        progress,
        title,
        subtitle,
    )
