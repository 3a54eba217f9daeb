"""Which sessions are known, and that a closed one stays closed until its next run."""

from __future__ import annotations

from pathlib import Path

from executor.delivery.known_sessions import (
    close_sessions,
    forget_sessions,
    known_sessions,
    reopen_session,
)
from executor.delivery.session_rows import SessionRecord
from executor.delivery.state import StateStore
from shared.protocol.events import RunRef


async def closed(store: StateStore) -> dict[str, bool]:
    return {session.session_id: session.closed for session in await known_sessions(store)}


async def test_a_closed_session_stays_closed_over_a_restart_until_it_is_opened_again(
    tmp_path: Path,
) -> None:
    store = await StateStore.open(tmp_path / "docker.db")
    store.save_session(SessionRecord("1", "claude_code", "abc", tmp_path, None))
    await store.accept(RunRef(2, 20))  # no agent has begun in this one
    close_sessions(store, ["1", "2"])
    close_sessions(store, ["1"])
    await store.close()

    store = await StateStore.open(tmp_path / "docker.db")
    assert await closed(store) == {"1": True, "2": True}
    reopen_session(store, "2")
    assert await closed(store) == {"1": True, "2": False}
    record = await store.session("1")
    assert record is not None
    assert record.sdk_session_id == "abc"  # its conversation is still there
    await store.close()


async def test_a_session_is_forgotten_that_has_neither_run_nor_folder_for_long(
    tmp_path: Path,
) -> None:
    store = await StateStore.open(tmp_path / "docker.db")
    for session_id in ("gone", "Kept", "running", "recent"):
        store.save_session(SessionRecord(session_id, "claude_code", "abc", tmp_path, None))
    await store.submit(
        lambda db: db.execute(
            "UPDATE sessions SET updated_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '-31 days')"
            " WHERE task_id != 'recent'"
        ).close()
    )
    await store.accept(RunRef("running", 1))
    close_sessions(store, ["gone", "Kept", "running", "never begun"])

    forget_sessions(store, ["kept", "other"])

    assert await closed(store) == {"Kept": True, "running": True, "recent": False}
    assert await store.session("gone") is None
    rows = await store.submit(lambda db: db.execute("SELECT * FROM closed_sessions").fetchall())
    assert rows == [("Kept",), ("running",)]
    await store.close()
