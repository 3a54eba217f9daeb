from __future__ import annotations

import asyncio
from typing import Any

import pytest

from executor.delivery.outbox import Outbox
from executor.modes.local.dialect import encode
from executor.modes.local.progress_reporter import ProgressReporter
from shared.protocol import wire_json
from shared.protocol.events import AgentEvent, EventType, NumberedEvent, RunRef, Source
from shared.protocol.execution import ExecutionRequest
from shared.protocol.local import MAX_EVENT_BYTES, RunAck
from shared.status import ErrorCode

REQUEST = ExecutionRequest.model_validate(
    {"task_id": 7, "subtask_id": 9, "prompt": "hi", "task_title": "T", "subtask_title": "S"}
)
RUN = REQUEST.run


class Backend:
    """Takes and acknowledges everything; the connection under the outbox."""

    def __init__(self) -> None:
        self.events: list[NumberedEvent] = []
        self.arrived = asyncio.Event()

    async def send_event(self, event: NumberedEvent) -> asyncio.Future[RunAck | None]:
        self.events.append(event)
        self.arrived.set()
        answer: asyncio.Future[RunAck | None] = asyncio.get_running_loop().create_future()
        answer.set_result(RunAck(success=True, acked=event.seq))
        return answer

    async def expect(self, type_: str) -> NumberedEvent:
        """The first event of that type, waiting for it if need be."""
        async with asyncio.timeout(5):
            while True:
                for event in self.events:
                    if event.event.type == type_:
                        return event
                self.arrived.clear()
                await self.arrived.wait()


class Told:
    """A reporter, the run it tells of, and what came out."""

    def __init__(self, merge_for_s: float = 3600) -> None:
        self.outbox = Outbox(on_superseded=lambda key: None)
        self.reporter = ProgressReporter(self.outbox, merge_for_s=merge_for_s)
        self.backend = Backend()
        self.reporter.open(REQUEST)

    def tell(self, type_: str, **data: Any) -> None:
        self.reporter.report(RUN, AgentEvent(type_, data))

    def delta(self, content: str, offset: int, message_id: str = "m") -> None:
        self.tell(EventType.LLM_STREAM, message_id=message_id, content=content, offset=offset)

    async def out(self) -> list[NumberedEvent]:
        """Connect, and give what arrives."""
        pump = asyncio.create_task(self.outbox.pump(self.backend, acks=True))
        try:
            async with asyncio.timeout(5):
                await self.outbox.wait_empty()
        finally:
            pump.cancel()
        return self.backend.events


@pytest.fixture
async def told() -> Told:
    return Told()


async def test_events_are_numbered_from_one_without_gaps(told: Told) -> None:
    told.tell(EventType.STARTED)
    told.tell(EventType.WORKSPACE_PREPARED)
    told.tell(EventType.COMPLETED)
    events = await told.out()
    assert [event.seq for event in events] == [1, 2, 3]
    assert told.reporter.last_seq(RUN.key) == 3
    assert (events[0].task_title, events[0].subtask_title) == ("T", "S")


async def test_the_first_delta_goes_at_once_and_later_ones_are_merged(told: Told) -> None:
    for offset, letter in enumerate("abcd"):
        told.delta(letter, offset)
    told.tell(EventType.LLM_DONE, message_id="m", content="abcd")
    events = await told.out()
    assert [(e.event.type, e.event.data["content"]) for e in events] == [
        (EventType.LLM_STREAM, "a"),
        (EventType.LLM_STREAM, "bcd"),
        (EventType.LLM_DONE, "abcd"),
    ]
    assert [e.event.data.get("offset") for e in events] == [0, 1, None]


async def test_without_merging_every_delta_goes_at_once() -> None:
    told = Told(merge_for_s=0)
    pump = asyncio.create_task(told.outbox.pump(told.backend, acks=True))
    told.delta("a", 0)
    await told.backend.expect(EventType.LLM_STREAM)
    told.delta("b", 1)
    told.delta("c", 2)
    async with asyncio.timeout(5):
        await told.outbox.wait_empty()
    pump.cancel()
    assert [event.event.data["content"] for event in told.backend.events] == ["a", "b", "c"]


async def test_merged_text_arrives_without_anything_after_it() -> None:
    told = Told(merge_for_s=0.001)
    pump = asyncio.create_task(told.outbox.pump(told.backend, acks=True))
    told.delta("a", 0)
    await told.backend.expect(EventType.LLM_STREAM)
    told.backend.events.clear()
    told.delta("b", 1)
    told.delta("c", 2)
    merged = await told.backend.expect(EventType.LLM_STREAM)
    pump.cancel()
    assert merged.event.data == {"message_id": "m", "content": "bc", "offset": 1}


async def test_while_disconnected_text_is_gathered_into_large_chunks() -> None:
    told = Told(merge_for_s=0)
    loop = asyncio.get_running_loop()
    for offset in range(10):
        told.delta("x", offset)
        merging_is_over = loop.create_future()
        loop.call_later(0, merging_is_over.set_result, None)
        await merging_is_over
    events = await told.out()
    assert [e.event.data["content"] for e in events] == ["x", "x" * 9]


async def test_text_beyond_a_chunk_is_numbered_although_disconnected(told: Told) -> None:
    told.delta("x", 0)
    told.delta("y" * 20_000, 1)
    assert told.reporter.last_seq(RUN.key) == 2


async def test_a_huge_delta_is_split_and_joins_to_the_same_text(told: Told) -> None:
    text = "é" * 300_000
    told.delta(text, 5)
    events = await told.out()
    assert len(events) > 1
    assert "".join(e.event.data["content"] for e in events) == text
    assert events[1].event.data["offset"] == 5 + len(events[0].event.data["content"])


async def test_progress_never_falls_and_only_the_result_is_100(told: Told) -> None:
    told.tell(EventType.STARTED)
    told.tell(EventType.WORKSPACE_PREPARED)
    told.tell(EventType.SESSION, sdk_session_id="s")
    for _ in range(100):
        told.tell(EventType.TOOL_RESULT, tool_id="t")
    todos = [{"content": "a", "status": "completed"}, {"content": "b", "status": "pending"}]
    told.tell(EventType.TODOS, todos=todos)
    told.tell(EventType.STARTED)
    told.tell(EventType.COMPLETED)
    bar = [event.progress for event in await told.out()]
    assert bar[:3] == [10, 20, 30]
    assert bar == sorted(bar)
    assert bar[-2] <= 90
    assert bar[-1] == 100


async def test_a_todo_list_moves_the_bar_by_its_share(told: Told) -> None:
    todos = [{"status": "completed"}, {"status": "completed"}, {"status": "pending"}, {}]
    told.tell(EventType.TODOS, todos=todos)
    told.tell(EventType.TOOL_RESULT, tool_id="t")
    assert [event.progress for event in await told.out()] == [62, 62]


async def test_a_message_left_open_is_closed_before_the_verdict(told: Told) -> None:
    told.tell(EventType.LLM_START, message_id="m", model=None)
    told.delta("half", 0)
    told.delta(" more", 4)
    told.tell(EventType.FAILED, error="it broke", error_code="timed_out")
    events = [event.event for event in await told.out()]
    assert [event.type for event in events] == [
        EventType.LLM_START,
        EventType.LLM_STREAM,
        EventType.LLM_STREAM,
        EventType.LLM_ERROR,
        EventType.FAILED,
    ]
    assert events[3].data == {"message_id": "m", "error": "it broke", "code": "timed_out"}


async def test_nothing_follows_a_verdict_but_its_repeat(told: Told) -> None:
    told.tell(EventType.COMPLETED, result="first")
    told.tell(EventType.FAILED, error="late", error_code="internal")
    await told.out()
    assert told.reporter.delivered(RUN.key)
    told.reporter.repeat_verdict(RUN.key)
    events = await told.out()
    assert [event.event.data for event in events] == [{"result": "first"}] * 2
    assert [event.seq for event in events] == [1, 1]


async def test_a_forgotten_run_tells_nothing_more(told: Told) -> None:
    told.tell(EventType.STARTED)
    told.delta("a", 0)
    told.delta("b", 1)
    told.reporter.forget(RUN.key)
    told.tell(EventType.COMPLETED)
    assert await told.out() == []


async def test_a_refusal_is_told_as_a_failed_run(told: Told) -> None:
    told.reporter.refuse(RunRef(1, 2), ErrorCode.INVALID_REQUEST, "prompt: must not be empty")
    (event,) = await told.out()
    assert (event.seq, event.event.type, event.run) == (1, EventType.FAILED, RunRef(1, 2))
    assert event.event.data["error_code"] == "invalid_request"


async def test_large_results_are_bounded_before_they_are_numbered(told: Told) -> None:
    told.tell(EventType.TOOL_RESULT, tool_id="t", result="x" * 2_000_000)
    (event,) = await told.out()
    assert event.event.data["truncated"] is True
    assert event.event.data["full_length"] == 2_000_000


async def test_titles_and_names_of_any_length_leave_an_event_within_its_bound() -> None:
    long = ExecutionRequest.model_validate(
        {"task_id": 7, "subtask_id": 9, "prompt": "hi", "task_title": "\x01" * 10**6}
        | {"subtask_title": "s" * 10**6}
    )
    told = Told()
    told.reporter.open(long)
    source = Source("a" * 10**6, agent_name="n" * 10**6, team_name="t" * 10**6)
    data = {"tool_id": "t", "tool_name": "x", "result": "y" * 10**6, "is_error": False}
    told.reporter.report(RUN, AgentEvent(EventType.TOOL_RESULT, data, source))
    pumping = asyncio.create_task(told.outbox.pump(told.backend, acks=True))
    event = await told.backend.expect(EventType.TOOL_RESULT)
    pumping.cancel()
    _, payload = encode(event)
    assert len(wire_json.dumps(payload).encode()) <= MAX_EVENT_BYTES
    assert payload["subtask_title"].startswith("sss")
