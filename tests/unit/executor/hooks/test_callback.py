"""Each event of a run leads to at most one callback, with the names and bodies of seed 000."""

from __future__ import annotations

from typing import Any

import pytest

from executor.hooks.callback import RunCallbacks
from shared.protocol.events import AgentEvent, EventType, RunRef, Source

RUN = RunRef(7, 9)


class Told:
    """A run's callbacks, event after event."""

    def __init__(self) -> None:
        self._callbacks = RunCallbacks()
        self._sequence = 0

    def __call__(
        self, type_: str, /, run: RunRef = RUN, source: Source | None = None, **data: Any
    ) -> dict[str, Any] | None:
        self._sequence += 1
        return self._callbacks.take(
            run, self._sequence, AgentEvent(type_, data, source, timestamp="T")
        )


@pytest.fixture
def told() -> Told:
    return Told()


def test_a_callback_says_which_run_which_event_and_where_in_its_log(told: Told) -> None:
    told(EventType.SESSION, sdk_session_id="s")
    assert told(EventType.STARTED, task="hi", resumed=False) == {
        "event": "task_started",
        "session_id": "7",
        "run_id": "9",
        "sequence": 2,
        "timestamp": "T",
        "data": {"task": "hi", "resumed": False},
    }


@pytest.mark.parametrize(
    ("type_", "name", "data"),
    [
        (EventType.TODOS, "todo_updated", {"todos": [{"content": "a", "status": "pending"}]}),
        (EventType.INPUT_REQUIRED, "user_input_required", {"request_id": "q", "kind": "plan"}),
        (EventType.WORKSPACE_CHANGED, "workspace_updated", {"files": [{"path": "a"}]}),
        (EventType.COMPLETED, "task_completed", {"result": "done", "statistics": {}}),
        (EventType.FAILED, "task_failed", {"error": "e", "error_code": "stalled"}),
        (EventType.CANCELLED, "task_cancelled", {"reason": "r"}),
    ],
)
def test_what_is_told_as_it_is_keeps_its_data(
    told: Told, type_: str, name: str, data: dict[str, Any]
) -> None:
    body = told(type_, **data)
    assert body is not None
    assert (body["event"], body["data"]) == (name, data)


def test_a_tool_s_call_and_its_result_are_one_callback(told: Told) -> None:
    arguments = {"command": "ls"}
    assert told(EventType.TOOL_CALL, tool_id="t", tool_name="Bash", arguments=arguments) is None
    body = told(
        EventType.TOOL_RESULT, tool_id="t", tool_name="Bash", result="a file", is_error=False
    )
    assert body is not None
    assert body["event"] == "tool_call"
    assert body["data"] == {
        "turn": 1,
        "tool_name": "Bash",
        "tool_input": arguments,
        "tool_output": "a file",
    }


def test_a_result_without_its_call_is_told_all_the_same(told: Told) -> None:
    body = told(EventType.TOOL_RESULT, tool_id="t", tool_name="Bash", result="x")
    assert body is not None
    assert body["data"]["tool_input"] == {}


def test_turns_are_counted_from_one(told: Told) -> None:
    turns = []
    for tool_id in ("a", "b"):
        told(EventType.TOOL_CALL, tool_id=tool_id, tool_name="Bash", arguments={})
        body = told(EventType.TOOL_RESULT, tool_id=tool_id, tool_name="Bash", result="")
        assert body is not None
        turns.append(body["data"]["turn"])
    told(EventType.LLM_START, message_id="m")
    done = told(EventType.LLM_DONE, message_id="m", content="all done", usage={})
    assert done is not None
    assert [*turns, done["data"]["turn"]] == [1, 2, 3]


def test_a_complete_message_is_an_agent_response_and_its_pieces_are_nothing(told: Told) -> None:
    source = Source("a")
    assert told(EventType.LLM_START, source=source, message_id="m") is None
    chunk: dict[str, Any] = {"message_id": "m", "content": "hel", "offset": 0}
    assert told(EventType.LLM_STREAM, source=source, **chunk) is None
    body = told(EventType.LLM_DONE, source=source, message_id="m", content="hello", usage={})
    assert body is not None
    assert body["event"] == "agent_response"
    assert body["data"] == {"turn": 1, "message_id": "m", "content": "hello", "usage": {}}


@pytest.mark.parametrize(
    "type_", [EventType.REASONING, EventType.WARNING, EventType.TRUNCATED, "future.event"]
)
def test_what_receivers_do_not_know_leads_to_nothing(told: Told, type_: str) -> None:
    assert told(type_, content="c", message="m") is None


def test_the_end_tells_by_which_id_the_conversation_goes_on(told: Told) -> None:
    told(EventType.SESSION, sdk_session_id="sid")
    body = told(EventType.COMPLETED, result="")
    assert body is not None
    assert body["data"] == {"result": "", "sdk_session_id": "sid"}


def test_a_tool_that_never_ended_adds_nothing_to_the_verdict(told: Told) -> None:
    told(EventType.TOOL_CALL, tool_id="t", tool_name="Bash", arguments={})
    body = told(EventType.CANCELLED)
    assert body is not None
    assert body["event"] == "task_cancelled"


def test_the_next_attempt_is_told_after_the_verdict_of_the_one_before(told: Told) -> None:
    told(EventType.FAILED, error="e")
    second = RunRef(7, 9, attempt=2)
    body = told(EventType.TOOL_RESULT, run=second, tool_id="t", tool_name="Bash", result="x")
    assert body is not None
    assert body["event"] == "tool_call"
