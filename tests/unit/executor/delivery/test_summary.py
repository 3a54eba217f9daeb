"""The state in numbers, beside a running executor."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest

from executor.delivery.callback_book import CallbackBook
from executor.delivery.schema import VERSION
from executor.delivery.session_rows import SessionRecord
from executor.delivery.state import StateStore
from executor.delivery.summary import summarize
from shared.protocol.events import AgentEvent, EventType, NumberedEvent, RunRef


async def test_everything_is_counted_while_the_store_is_open(tmp_path: Path) -> None:
    store = await StateStore.open(tmp_path / "state.db")
    store.save_session(SessionRecord("7", "claude_code", None, Path("/secret"), None))
    await store.accept(RunRef(7, 70))
    for seq, kind in enumerate((EventType.LLM_START, EventType.LLM_STREAM), 1):
        event = AgentEvent(kind, {"text": "private", "message_id": "m"})
        numbered = NumberedEvent(RunRef(7, 70), seq, event)
        store.add_event(seq, numbered, written=lambda _position: None)
    CallbackBook(store).expect("70", "https://private.example/cb", "private", None)
    await store.session("7")  # by now, all before it is written

    summary = await asyncio.to_thread(summarize, tmp_path / "state.db")
    await store.close()

    assert summary["file_bytes"] > 0
    assert summary["version"] == VERSION
    assert summary["integrity"] == "ok"
    assert summary["sessions"] == 1
    assert summary["runs"] == {"running": 1}
    assert summary["verdicts"] == {}
    assert summary["events_waiting"] == {"llm.start": 1, "llm.stream": 1}
    assert summary["events_waiting_bytes"] > 0
    assert summary["oldest_event_waits_s"] == 0
    assert summary["callbacks"] == {"active": 1}
    assert summary["open_messages"] == 1
    assert summary["open_questions"] == 0
    assert "private" not in str(summary)
    assert "/secret" not in str(summary)


def test_nothing_is_made_where_there_is_no_state(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        summarize(tmp_path / "state.db")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_database_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "state.db").write_text("something else" * 100)
    with pytest.raises(sqlite3.DatabaseError):
        summarize(tmp_path / "state.db")
