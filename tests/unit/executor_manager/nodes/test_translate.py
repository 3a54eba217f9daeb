"""What the executor's dialect says is read back as the same event."""

from __future__ import annotations

from typing import Any

import pytest

from executor.modes.local.dialect import encode
from executor_manager.nodes.translate import read_event, unusable
from shared.errors import ProtocolError
from shared.protocol.events import AgentEvent, NumberedEvent, RunRef, Source
from shared.protocol.local import LocalEvent

STATISTICS = {"duration_ms": 5, "num_turns": 1}
WORKSPACE = {"path": "/w", "files": []}


@pytest.mark.parametrize(
    ("type_", "data"),
    [
        ("lifecycle.started", {"task": "t", "resumed": False}),
        ("llm.start", {"message_id": "m", "model": "claude"}),
        ("llm.start", {"message_id": "m", "model": None}),
        ("llm.stream", {"message_id": "m", "content": "é", "offset": 3}),
        ("llm.done", {"message_id": "m", "content": "é", "usage": {"output_tokens": 1}}),
        (
            "llm.done",
            {
                "message_id": "m",
                "content": "é",
                "usage": None,
                "truncated": True,
                "full_length": 9,
            },
        ),
        ("llm.error", {"message_id": "m", "error": "e", "code": "interrupted"}),
        ("llm.tool_call", {"tool_id": "t", "tool_name": "Read", "arguments": {"a": [1]}}),
        (
            "agent.input_required",
            {
                "request_id": "r",
                "kind": "question",
                "tool_name": "AskUserQuestion",
                "tool_input": {"q": 1},
                "expires_at": None,
            },
        ),
        ("system.truncated", {"covers_from": 2}),
        ("tomorrow.new_kind", {"x": None}),
        (
            "lifecycle.completed",
            {"result": "ok", "workspace": WORKSPACE, "statistics": STATISTICS},
        ),
        (
            "lifecycle.failed",
            {
                "error": "no",
                "error_code": "api_error",
                "details": "d",
                "workspace": WORKSPACE,
                "statistics": STATISTICS,
            },
        ),
        (
            "lifecycle.cancelled",
            {"reason": "typo", "workspace": WORKSPACE, "statistics": STATISTICS},
        ),
    ],
)
def test_an_event_survives_the_way_over_the_wire(type_: str, data: dict[str, Any]) -> None:
    sent = NumberedEvent(
        run=RunRef(0, "r", 2),
        seq=7,
        event=AgentEvent(type_, data, Source("a", agent_name="A")),
        progress=40,
    )
    place, event = read_event(*encode(sent))
    assert (place.subtask_id, place.attempt, place.seq) == ("r", 2, 7)
    assert (event.seq, event.type, event.data) == (7, type_, data)
    assert event.timestamp == sent.event.timestamp
    assert event.source == Source("a", agent_name="A").to_dict()


def test_a_failed_result_without_reasons_still_says_something() -> None:
    _, event = read_event(
        LocalEvent.RESULT,
        {
            "task_id": 1,
            "subtask_id": 2,
            "seq": 1,
            "timestamp": "t",
            "status": "failed",
            "result": {},
            "message": "it broke",
        },
    )
    assert event.data == {
        "error": "it broke",
        "error_code": "internal",
        "workspace": None,
        "statistics": {},
    }


def test_an_unusable_message_names_the_field_and_not_its_value() -> None:
    raw = {"task_id": 1, "subtask_id": 2, "seq": 3, "timestamp": "t", "chunk": {"a": "SECRET"}}
    with pytest.raises(ProtocolError) as caught:
        read_event(LocalEvent.CHAT_CHUNK, raw)
    place, event = unusable(LocalEvent.CHAT_CHUNK, raw, caught.value)
    assert (place.seq, event.type) == (3, "system.warning")
    assert "chunk" in event.data["message"]
    assert "SECRET" not in event.data["message"]


@pytest.mark.parametrize("name", [LocalEvent.CHAT_DONE, LocalEvent.CHAT_ERROR])
def test_the_unusable_end_of_a_message_ends_it_all_the_same(name: LocalEvent) -> None:
    raw = {"task_id": 1, "subtask_id": 2, "seq": 3, "timestamp": "t", "message_id": "m"}
    with pytest.raises(ProtocolError) as caught:
        read_event(name, raw)
    _, event = unusable(name, raw, caught.value)
    assert (event.type, event.data["message_id"], event.data["code"]) == (
        "llm.error", "m", "internal",
    )  # fmt: skip
    _, event = unusable(name, raw | {"message_id": 5}, caught.value)
    assert event.type == "system.warning"


@pytest.mark.parametrize("raw", [None, [], {"subtask_id": "../x", "seq": 1}, {"subtask_id": 1}])
def test_a_message_without_a_place_is_refused_whole(raw: object) -> None:
    with pytest.raises(ProtocolError):
        unusable(LocalEvent.RESULT, raw, ProtocolError("x"))
