"""Every event of the vocabulary becomes one valid message."""

from __future__ import annotations

import json
from typing import Any

import pytest

from executor.modes.local.dialect import MAX_TEXT, encode
from shared.protocol.events import AgentEvent, EventType, NumberedEvent, RunRef, Source
from shared.protocol.local import RUN_EVENTS, LocalEvent, read, to_wire

WORKSPACE = {"path": "/w/1", "branch": "main", "commit": "abc", "files": []}
STATISTICS = {"duration_ms": 5, "num_turns": 1}

DATA: dict[str, dict[str, Any]] = {
    EventType.STARTED: {
        "task": "fix",
        "agent_type": "claude_code",
        "model": None,
        "resumed": False,
    },
    EventType.WORKSPACE_PREPARED: {"path": "/w/1", "repository": None, "branch": None},
    EventType.WORKSPACE_CHANGED: {"files": [{"path": "a", "status": "modified"}]},
    EventType.SESSION: {"sdk_session_id": "s-1"},
    EventType.TODOS: {"todos": [{"content": "a", "status": "completed", "active_form": "a"}]},
    EventType.INPUT_REQUIRED: {
        "request_id": "q-1",
        "kind": "question",
        "tool_name": "AskUserQuestion",
        "tool_input": {"questions": []},
        "expires_at": "2026-01-01T00:00:00.000Z",
    },
    EventType.INPUT_RESOLVED: {"request_id": "q-1", "outcome": "answered"},
    EventType.MEMBER_COMPLETED: {},
    EventType.LLM_START: {"message_id": "m-1", "model": "opus"},
    EventType.LLM_STREAM: {"message_id": "m-1", "content": "héllo", "offset": 3},
    EventType.LLM_DONE: {"message_id": "m-1", "content": "héllo", "usage": {"output_tokens": 1}},
    EventType.LLM_ERROR: {"message_id": "m-1", "error": "overloaded", "code": "api_error"},
    EventType.REASONING: {"content": "hm"},
    EventType.TOOL_CALL: {"tool_id": "t", "tool_name": "Bash", "arguments": {"command": "ls"}},
    EventType.TOOL_RESULT: {"tool_id": "t", "tool_name": "Bash", "result": "x", "is_error": True},
    EventType.DISPATCH_TEAM: {"name": "red", "task": "x"},
    EventType.DISPATCH_WORKER: {"name": "ann", "task": "x"},
    EventType.TOPOLOGY: {"topology": {}},
    EventType.WARNING: {"message": "careful"},
    EventType.ERROR: {"error": "bad", "details": "very"},
    EventType.TRUNCATED: {"covers_from": 2},
    EventType.COMPLETED: {"result": "done", "workspace": WORKSPACE, "statistics": STATISTICS},
    EventType.FAILED: {
        "error": "boom",
        "error_code": "agent_error",
        "details": "at line 3",
        "workspace": WORKSPACE,
        "statistics": STATISTICS,
    },
    EventType.CANCELLED: {"reason": "user", "workspace": WORKSPACE, "statistics": STATISTICS},
}


def numbered(kind: str, data: dict[str, Any] | None = None, **fields: Any) -> NumberedEvent:
    event = AgentEvent(kind, DATA.get(kind, {}) if data is None else data, **fields)
    return NumberedEvent(RunRef(0, "s-1", 2), 7, event, 40, "Title", "Subtitle")


def test_the_examples_here_cover_the_whole_vocabulary() -> None:
    assert set(DATA) == set(EventType)


@pytest.mark.parametrize("kind", list(EventType))
def test_every_event_is_a_valid_payload_of_its_model(kind: str) -> None:
    name, payload = encode(numbered(kind))
    model = read(RUN_EVENTS[name], payload)
    assert to_wire(model) == payload | to_wire(model)  # nothing in it that the model drops
    assert payload.keys() <= to_wire(model).keys()
    assert json.loads(json.dumps(payload)) == payload
    assert (model.run, model.seq) == (RunRef(0, "s-1", 2), 7)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (EventType.LLM_START, LocalEvent.CHAT_START),
        (EventType.LLM_STREAM, LocalEvent.CHAT_CHUNK),
        (EventType.LLM_DONE, LocalEvent.CHAT_DONE),
        (EventType.LLM_ERROR, LocalEvent.CHAT_ERROR),
        (EventType.INPUT_REQUIRED, LocalEvent.INPUT_REQUIRED),
        (EventType.COMPLETED, LocalEvent.RESULT),
        (EventType.FAILED, LocalEvent.RESULT),
        (EventType.CANCELLED, LocalEvent.RESULT),
        (EventType.TOOL_CALL, LocalEvent.PROGRESS),
        ("later.invention", LocalEvent.PROGRESS),
    ],
)
def test_each_event_has_the_name_that_the_design_gives_it(kind: str, name: LocalEvent) -> None:
    assert encode(numbered(kind))[0] is name


def test_progress_carries_the_event_itself_so_that_nothing_is_lost() -> None:
    name, payload = encode(numbered(EventType.TOOL_CALL, source=Source("a", agent_name="Ann")))
    assert name is LocalEvent.PROGRESS
    assert payload == {
        "task_id": 0,
        "subtask_id": "s-1",
        "attempt": 2,
        "seq": 7,
        "timestamp": payload["timestamp"],
        "source": {
            "agent_id": "a",
            "agent_type": "agent",
            "agent_name": "Ann",
            "team_name": None,
        },
        "task_title": "Title",
        "subtask_title": "Subtitle",
        "progress": 40,
        "status": "running",
        "message": "Using Bash",
        "event": {"category": "llm", "action": "tool_call"},
        "data": DATA[EventType.TOOL_CALL],
    }


def test_a_completed_run_tells_its_value() -> None:
    _, payload = encode(numbered(EventType.COMPLETED))
    assert payload["status"] == "completed"
    assert payload["progress"] == 100
    assert payload["result"] == {
        "value": "done",
        "workspace": WORKSPACE,
        "statistics": STATISTICS,
    }


def test_a_failed_run_tells_the_agents_own_words() -> None:
    _, payload = encode(numbered(EventType.FAILED))
    assert (payload["status"], payload["message"]) == ("failed", "boom")
    assert payload["result"] == {
        "error": "boom",
        "error_code": "agent_error",
        "details": "at line 3",
        "workspace": WORKSPACE,
        "statistics": STATISTICS,
    }


def test_a_cancelled_run_tells_the_reason() -> None:
    _, payload = encode(numbered(EventType.CANCELLED))
    assert (payload["status"], payload["result"]["reason"]) == ("cancelled", "user")


def test_a_verdict_without_details_still_has_statistics_and_workspace() -> None:
    _, payload = encode(numbered(EventType.CANCELLED, {}))
    assert payload["result"] == {"statistics": {}, "workspace": {}}


def test_marks_of_cut_contents_reach_the_wire() -> None:
    cut = {"truncated": True, "full_length": 9_000_000}
    _, done = encode(numbered(EventType.LLM_DONE, DATA[EventType.LLM_DONE] | cut))
    _, verdict = encode(numbered(EventType.COMPLETED, DATA[EventType.COMPLETED] | cut))
    assert done | cut == done
    assert verdict["result"] | cut == verdict["result"]


@pytest.mark.parametrize("kind", list(EventType))
def test_an_event_without_its_fields_still_becomes_a_valid_message(kind: str) -> None:
    name, payload = encode(numbered(kind, {"truncated": True, "full_length": 4}))
    read(RUN_EVENTS[name], payload)


def test_the_line_for_a_person_stays_short() -> None:
    _, payload = encode(numbered(EventType.FAILED, {"error": "x" * 5000, "error_code": "internal"}))
    assert len(payload["message"]) == MAX_TEXT
    assert len(payload["result"]["error"]) == 5000
