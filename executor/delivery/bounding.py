"""Keeps what waits for the backend within its bounds of size and age.

Beyond them the oldest events go first: a contiguous range of one run is replaced by a placeholder
that says what it stands for. A verdict is never among them.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field
from typing import Final

from executor.delivery.event_rows import (
    decode,
    encode,
    event_row,
    mark_truncated,
    placeholder_for,
)
from shared.protocol.events import TERMINAL_EVENTS, EventType, NumberedEvent, RunKey

MAX_OUTBOX_BYTES: Final = 1 << 30
MAX_OUTBOX_AGE_S: Final = 24 * 3600.0
"""What waits for a backend that is away. Source of both: Delivery 3."""

ROWS_AT_ONCE: Final = 10_000
"""Rows of one range; bounds how long other writes wait."""

_KEPT: Final = tuple(TERMINAL_EVENTS)


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the outbox may hold, in bytes on the disk and in seconds of age."""

    max_bytes: int = MAX_OUTBOX_BYTES
    max_age_s: float = MAX_OUTBOX_AGE_S


@dataclass(slots=True)
class _Range:
    """Rows that go, and the placeholder that stands for them."""

    first: int
    covers_from: int
    last: NumberedEvent
    position: int
    bytes: int = 0
    messages: set[str] = field(default_factory=set)
    """Those that lose some of their text."""


def outbox_bytes(db: sqlite3.Connection) -> int:
    """What the events take."""
    (size,) = db.execute("SELECT bytes FROM outbox_size").fetchone()
    return int(size)


def shrink(db: sqlite3.Connection, bounds: Bounds, after: int, now: float) -> bool:
    """Replace one range of events if there are too many or too old ones.

    Args:
        bounds: What may stay.
        after: The position from which on events may go; those before are on their way.
        now: The time by which ``created_at`` was written.

    Returns:
        Whether to look again: something was replaced.
    """
    excess = outbox_bytes(db) - bounds.max_bytes
    oldest = _oldest(db, after)
    if oldest is None:
        return False
    key, seq, created_at = oldest
    expired = now - bounds.max_age_s
    if excess <= 0 and created_at >= expired:
        return False
    # Some more than needed, so that not every new event costs a range of its own.
    wanted = excess + bounds.max_bytes // 16 if excess > 0 else 0
    found = _range(db, key, seq, wanted, expired)
    if found is None:
        return False
    _replace(db, key, found, now)
    return True


def give_back_space(db: sqlite3.Connection, pages: int = 16_384) -> None:
    """Return free pages at the end of the file to the disk."""
    db.execute(f"PRAGMA incremental_vacuum({pages})").fetchall()


def _oldest(db: sqlite3.Connection, after: int) -> tuple[RunKey, int, float] | None:
    """The oldest event that may go and is no placeholder."""
    row = db.execute(
        "SELECT subtask_id, attempt, seq, created_at FROM events"
        " WHERE position > ? AND type NOT IN (?, ?, ?, ?) ORDER BY position LIMIT 1",
        (after, *_KEPT, EventType.TRUNCATED),
    ).fetchone()
    return None if row is None else ((row[0], row[1]), row[2], row[3])


def _range(
    db: sqlite3.Connection, key: RunKey, seq: int, wanted: int, expired: float
) -> _Range | None:
    """From *seq* on: at least *wanted* bytes, and all that is expired, as far as it goes."""
    found: _Range | None = None
    rows = db.execute(
        "SELECT position, seq, covers_from, type, body, size, created_at FROM events"
        " WHERE subtask_id = ? AND attempt = ? AND seq >= ? ORDER BY seq LIMIT ?",
        (*key, seq, ROWS_AT_ONCE),
    )
    for position, seq_, covers_from, type_, body, size, created_at in rows:
        if type_ in TERMINAL_EVENTS:
            break
        placeholder = type_ == EventType.TRUNCATED
        enough = found is not None and found.bytes >= wanted and created_at >= expired
        if enough and not placeholder:
            break
        event = decode(key[1], seq_, type_, body)
        if found is None:
            found = _Range(seq_, covers_from, event, position)
        found.last, found.position = event, position
        found.bytes += size
        if type_ == EventType.LLM_STREAM:
            found.messages.add(event.event.data.get("message_id", ""))
    if found is None:
        return None
    before = db.execute(
        "SELECT seq, covers_from FROM events WHERE subtask_id = ? AND attempt = ? AND seq = ?"
        " AND type = ?",
        (*key, found.first - 1, EventType.TRUNCATED),
    ).fetchone()
    if before is not None:  # two neighbouring placeholders become one
        found.first, found.covers_from = before
    return found


def _replace(db: sqlite3.Connection, key: RunKey, found: _Range, now: float) -> None:
    last = found.last
    db.execute(
        "DELETE FROM events WHERE subtask_id = ? AND attempt = ? AND seq BETWEEN ? AND ?",
        (*key, found.first, last.seq),
    )
    placeholder = placeholder_for(last.run, found.covers_from, last.seq, progress=last.progress)
    row = event_row(found.position, placeholder, now)
    db.execute("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
    for message_id in found.messages:
        _mark_truncated(db, key, message_id, last.seq)


def _mark_truncated(db: sqlite3.Connection, key: RunKey, message_id: str, after: int) -> None:
    """Say of a message that has lost chunks that it is not whole, where its end already waits."""
    rows = db.execute(
        "SELECT position, seq, type, body FROM events"
        " WHERE subtask_id = ? AND attempt = ? AND seq > ? AND type = ?",
        (*key, after, EventType.LLM_DONE),
    ).fetchall()
    for position, seq, type_, body in rows:
        event = decode(key[1], seq, type_, body)
        if event.event.data.get("message_id") == message_id:
            body = encode(mark_truncated(event))
            db.execute("UPDATE events SET body = ? WHERE position = ?", (body, position))
    db.execute(
        "UPDATE open_messages SET truncated = 1"
        " WHERE subtask_id = ? AND attempt = ? AND message_id = ?",
        (*key, message_id),
    )
