"""The tables of ``{home}/state.db``, and how an older file gets them."""

from __future__ import annotations

import sqlite3
from typing import Final

from shared.errors import ConfigError

_SESSIONS: Final = """
CREATE TABLE sessions (
    task_id        TEXT PRIMARY KEY,
    agent_type     TEXT NOT NULL,
    sdk_session_id TEXT,
    cwd            TEXT NOT NULL,
    config_dir     TEXT,
    updated_at     TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
) STRICT;
"""

_RUNS_AND_EVENTS: Final = """
-- Accepted runs, without their requests: those hold secrets, and come again with a dispatch.
CREATE TABLE runs (
    subtask_id     TEXT NOT NULL,
    attempt        INTEGER NOT NULL,
    ids            TEXT NOT NULL,             -- JSON [task_id, subtask_id], as received
    state          TEXT NOT NULL DEFAULT 'queued',          -- queued | running | finished
    last_seq       INTEGER NOT NULL DEFAULT 0,
    progress       INTEGER NOT NULL DEFAULT 0,
    sdk_session_id TEXT,
    verdict_type   TEXT,
    verdict        TEXT,                      -- the body of the terminal event
    finished_at    REAL,
    PRIMARY KEY (subtask_id, attempt)
) STRICT;

-- Messages that have begun and not ended.
CREATE TABLE open_messages (
    subtask_id TEXT NOT NULL,
    attempt    INTEGER NOT NULL,
    message_id TEXT NOT NULL,
    source     TEXT NOT NULL,                 -- JSON
    truncated  INTEGER NOT NULL DEFAULT 0,    -- whether some of its chunks were dropped
    PRIMARY KEY (subtask_id, attempt, message_id)
) STRICT, WITHOUT ROWID;

-- What the backend has not acknowledged, in the order in which it is sent.
CREATE TABLE events (
    position    INTEGER PRIMARY KEY,
    subtask_id  TEXT NOT NULL,
    attempt     INTEGER NOT NULL,
    seq         INTEGER NOT NULL,
    covers_from INTEGER NOT NULL,             -- seq, but for a placeholder: the first it stands for
    type        TEXT NOT NULL,
    body        TEXT NOT NULL,                -- JSON
    size        INTEGER NOT NULL,
    created_at  REAL NOT NULL
) STRICT;
CREATE UNIQUE INDEX events_of_run ON events (subtask_id, attempt, seq);

CREATE TABLE outbox_size (bytes INTEGER NOT NULL) STRICT;
INSERT INTO outbox_size VALUES (0);
CREATE TRIGGER event_added AFTER INSERT ON events
    BEGIN UPDATE outbox_size SET bytes = bytes + NEW.size; END;
CREATE TRIGGER event_removed AFTER DELETE ON events
    BEGIN UPDATE outbox_size SET bytes = bytes - OLD.size; END;
"""


_QUESTIONS_AND_CLOCK: Final = """
-- Questions to the user that have neither an answer nor an end.
CREATE TABLE open_questions (
    subtask_id TEXT NOT NULL,
    attempt    INTEGER NOT NULL,
    request_id TEXT NOT NULL,
    PRIMARY KEY (subtask_id, attempt, request_id)
) STRICT, WITHOUT ROWID;

-- The executor's own clock, by which created_at and finished_at are told.
CREATE TABLE clock (seconds REAL NOT NULL) STRICT;
INSERT INTO clock SELECT max(
    coalesce((SELECT max(created_at) FROM events), 0.0),
    coalesce((SELECT max(finished_at) FROM runs), 0.0)
);
"""

_SPENDING: Final = """
-- What an unfinished run has used of its limits; NULL: nothing yet.
ALTER TABLE runs ADD COLUMN turns INTEGER;
ALTER TABLE runs ADD COLUMN cost_before_usd REAL;       -- of its conversation, when it began
"""

_ORIGIN: Final = """
-- Up to where in another executor's log a run was passed on; NULL: it is carried out here.
ALTER TABLE runs ADD COLUMN origin INTEGER;
"""

_CALLBACKS: Final = """
-- Where a run is told by callbacks, and how far that has come.
CREATE TABLE callbacks (
    run_id     TEXT PRIMARY KEY,
    url        TEXT NOT NULL,
    token      TEXT,                          -- NULL also when nothing is to be sent any more
    trace_id   TEXT,
    acked      INTEGER NOT NULL DEFAULT 0,    -- the sequence up to which all is told
    state      TEXT NOT NULL DEFAULT 'active',              -- active | parked | ended
    error      TEXT,
    settled    INTEGER NOT NULL DEFAULT 0     -- whether nothing is to be sent any more
) STRICT, WITHOUT ROWID;
"""

_PLACE: Final = """
-- Whether a session's conversation lies in its own directory, where its container has it.
ALTER TABLE sessions ADD COLUMN in_container INTEGER NOT NULL DEFAULT 0;
"""

_LOG_OPEN: Final = """
-- During which run of the operating system the event log was opened and not closed again.
CREATE TABLE log_open (boot_id TEXT NOT NULL) STRICT;
"""

_TIME: Final = """
-- Of the time that an unfinished run may take: what it has used, and all of it; NULL: not known.
ALTER TABLE runs ADD COLUMN used_s REAL NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN limit_s REAL;
"""

_CLOSED: Final = """
-- Sessions that were closed by a request, until their next run.
CREATE TABLE closed_sessions (task_id TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
"""

_SEEN: Final = """
-- When used_s was written, by the clock of the system that counts from its start.
ALTER TABLE runs ADD COLUMN seen_at REAL;
"""

_STEPS: Final = (
    _SESSIONS,
    _RUNS_AND_EVENTS,
    _QUESTIONS_AND_CLOCK,
    _SPENDING,
    _ORIGIN,
    _CALLBACKS,
    _PLACE,
    _LOG_OPEN,
    _TIME,
    _CLOSED,
    _SEEN,
)
"""What each version adds to the one before it."""

VERSION: Final = len(_STEPS)


def migrate(db: sqlite3.Connection) -> None:
    """Bring the tables up to date; all of it or nothing.

    Raises:
        ConfigError: The file was made by a newer version of this program.
    """
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version > VERSION:
        raise ConfigError(
            "the executor's home was used by a newer version",
            hint="install that version again, or choose another WEGENT_EXECUTOR_HOME",
        )
    if version < VERSION:
        steps = " ".join(_STEPS[version:])
        db.executescript(f"BEGIN; {steps} PRAGMA user_version = {VERSION}; COMMIT;")
    if db.execute("PRAGMA auto_vacuum").fetchone() == (0,):  # a file from before it was used
        db.execute("PRAGMA auto_vacuum = INCREMENTAL")
        db.execute("VACUUM")
