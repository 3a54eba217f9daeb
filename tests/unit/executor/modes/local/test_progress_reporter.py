from __future__ import annotations

import asyncio
import base64
import json
from itertools import pairwise
from typing import Any
from urllib.parse import quote

import pytest

from executor.delivery.outbox import Outbox
from executor.delivery.run_rows import RunRecord
from executor.delivery.state import Outstanding, StateStore
from executor.modes.local.dialect import encode
from executor.modes.local.progress_reporter import ProgressReporter
from shared.protocol import wire_json
from shared.protocol.events import AgentEvent, EventType, NumberedEvent, RunRef, Source
from shared.protocol.execution import ExecutionRequest
from shared.protocol.local import MAX_EVENT_BYTES, RunAck, RunStanding
from shared.redaction import MASK, Redactor
from shared.status import ErrorCode

REQUEST = ExecutionRequest.model_validate(
    {"task_id": 7, "subtask_id": 9, "prompt": "hi", "task_title": "T", "subtask_title": "S"}
)
RUN = REQUEST.run

EXECUTOR_TOKEN = "token-of-the-executor"
KEY = 'sk-"key"/of+the run'
SECRETIVE = ExecutionRequest.model_validate(
    {
        "task_id": 7,
        "subtask_id": 9,
        "prompt": f"use {KEY}",
        "task_title": f"about {KEY}",
        "bot": {"agent_config": {"env": {"api_key": KEY}}},
    }
)
KEY_FORMS = {
    "plain": KEY,
    "base64": base64.b64encode(KEY.encode()).decode(),
    "url": quote(KEY, safe=""),
    "json": json.dumps(KEY)[1:-1],
}


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
        async with asyncio.timeout(30):
            while True:
                for event in self.events:
                    if event.event.type == type_:
                        return event
                self.arrived.clear()
                await self.arrived.wait()


class Told:
    """A reporter, the run it tells of, and what came out."""

    def __init__(
        self, store: StateStore, merge_for_s: float = 3600, request: ExecutionRequest = REQUEST
    ) -> None:
        self.outbox = Outbox(store, Outstanding([], 0), on_superseded=lambda key: None)
        self.backend = Backend()
        self.redactor = Redactor([EXECUTOR_TOKEN])
        self.reporter = ProgressReporter(self.outbox, self.redactor, merge_for_s=merge_for_s)
        self.reporter.open(request)

    def tell(self, type_: str, **data: Any) -> None:
        self.reporter.report(RUN, AgentEvent(type_, data))

    def delta(self, content: str, offset: int, message_id: str = "m") -> None:
        self.tell(EventType.LLM_STREAM, message_id=message_id, content=content, offset=offset)

    async def out(self) -> list[NumberedEvent]:
        """Connect, and give what arrives."""
        pump = asyncio.create_task(self.outbox.pump(self.backend, acks=True))
        try:
            async with asyncio.timeout(30):
                await self.outbox.wait_empty()
        finally:
            pump.cancel()
        return self.backend.events


@pytest.fixture
async def told(store: StateStore) -> Told:
    return Told(store)


async def test_events_are_numbered_from_one_without_gaps(told: Told) -> None:
    told.tell(EventType.STARTED)
    told.tell(EventType.WORKSPACE_PREPARED)
    assert told.reporter.last_seq(RUN.key) == 2
    assert told.reporter.report(RUN, AgentEvent(EventType.COMPLETED, {})) == 3
    events = await told.out()
    assert [event.seq for event in events] == [1, 2, 3]
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


async def test_without_merging_every_delta_goes_at_once(store: StateStore) -> None:
    told = Told(store, merge_for_s=0)
    pump = asyncio.create_task(told.outbox.pump(told.backend, acks=True))
    told.delta("a", 0)
    await told.backend.expect(EventType.LLM_STREAM)
    told.delta("b", 1)
    told.delta("c", 2)
    async with asyncio.timeout(30):
        await told.outbox.wait_empty()
    pump.cancel()
    assert [event.event.data["content"] for event in told.backend.events] == ["a", "b", "c"]


async def test_merged_text_arrives_without_anything_after_it(store: StateStore) -> None:
    told = Told(store, merge_for_s=0.001)
    pump = asyncio.create_task(told.outbox.pump(told.backend, acks=True))
    told.delta("a", 0)
    await told.backend.expect(EventType.LLM_STREAM)
    told.backend.events.clear()
    told.delta("b", 1)
    told.delta("c", 2)
    merged = await told.backend.expect(EventType.LLM_STREAM)
    pump.cancel()
    assert merged.event.data == {"message_id": "m", "content": "bc", "offset": 1}


async def test_while_disconnected_text_is_gathered_into_large_chunks(store: StateStore) -> None:
    told = Told(store, merge_for_s=0)
    loop = asyncio.get_running_loop()
    for offset in range(10):
        told.delta("z", offset)
        merging_is_over = loop.create_future()
        loop.call_later(0, merging_is_over.set_result, None)
        await merging_is_over
    events = await told.out()
    assert [e.event.data["content"] for e in events] == ["z", "z" * 9]


async def test_text_beyond_a_chunk_is_numbered_although_disconnected(told: Told) -> None:
    told.delta("z", 0)
    told.delta("y" * 20_000, 1)
    assert told.reporter.last_seq(RUN.key) == 2


async def test_a_huge_delta_is_split_and_joins_to_the_same_text(told: Told) -> None:
    text = "é" * 300_000
    told.delta(text, 0)
    events = await told.out()
    assert len(events) > 1
    assert "".join(e.event.data["content"] for e in events) == text
    assert events[1].event.data["offset"] == len(events[0].event.data["content"])


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


@pytest.mark.parametrize(
    ("verdict", "outcome"), [(EventType.CANCELLED, "denied"), (EventType.FAILED, "expired")]
)
async def test_a_question_left_open_is_resolved_before_the_verdict(
    told: Told, verdict: EventType, outcome: str
) -> None:
    ask = {"kind": "permission", "tool_name": "Bash", "tool_input": {"command": EXECUTOR_TOKEN}}
    told.tell(EventType.INPUT_REQUIRED, request_id="answered", **ask)
    told.tell(EventType.INPUT_REQUIRED, request_id="open", **ask)
    told.tell(EventType.INPUT_RESOLVED, request_id="answered", outcome="answered")
    told.tell(verdict, error="it broke", error_code="timed_out")
    events = [event.event for event in await told.out()]
    assert [event.type for event in events[2:]] == [
        EventType.INPUT_RESOLVED,
        EventType.INPUT_RESOLVED,
        verdict,
    ]
    assert events[3].data == {"request_id": "open", "outcome": outcome}
    assert events[0].data["tool_input"] == {"command": MASK}


async def test_nothing_follows_a_verdict_but_its_repeat(store: StateStore) -> None:
    await store.accept(RUN)
    told = Told(store)
    told.tell(EventType.COMPLETED, result="first")
    told.tell(EventType.FAILED, error="late", error_code="internal")
    await told.out()
    assert told.reporter.delivered(RUN.key)
    told.reporter.repeat_verdict(RUN, 1)
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


def chunks(events: list[NumberedEvent]) -> list[tuple[int, str]]:
    return [
        (e.event.data["offset"], e.event.data["content"])
        for e in events
        if e.event.type == EventType.LLM_STREAM
    ]


@pytest.mark.parametrize("form", KEY_FORMS)
async def test_a_secret_in_any_form_over_any_seam_is_masked_in_the_message(
    form: str, store: StateStore
) -> None:
    secret = KEY_FORMS[form]
    for merge_for_s in (0, 3600):
        told = Told(store, merge_for_s, SECRETIVE)
        pump = asyncio.create_task(told.outbox.pump(told.backend, acks=True))
        while not told.outbox.connected:
            await asyncio.wait({pump}, timeout=0)
        whole = ""
        for seam in range(0, len(secret), 3):
            for piece in (f" It is {secret[:seam]}", f"{secret[seam:]}, so."):
                told.delta(piece, len(whole))
                whole += piece
        told.tell(EventType.LLM_DONE, message_id="m", content=whole, usage=None)
        pump.cancel()
        events = await told.out()
        sent = chunks(events)
        content = events[-1].event.data["content"]
        assert content == "".join(text for _, text in sent)
        assert content.count(MASK) == len(range(0, len(secret), 3))
        assert KEY[3:-3] not in content
        assert secret[3:-3] not in content
        lengths = [0, *(offset + len(text) for offset, text in sent)]
        assert [offset for offset, _ in sent] == lengths[:-1]


async def test_text_that_is_no_secret_is_not_held_back(store: StateStore) -> None:
    told = Told(store, 3600, SECRETIVE)
    told.delta("The", 0)
    told.delta(" answer: ", 3)
    assert told.reporter.last_seq(RUN.key) == 1
    assert chunks(await told.out()) == [(0, "The"), (3, " answer: ")]


async def test_held_text_comes_before_the_tool_call_that_ends_its_block(store: StateStore) -> None:
    told = Told(store, 3600, SECRETIVE)
    told.delta("Let me see the files", 0)
    told.tell(EventType.TOOL_CALL, tool_id="t", tool_name="Read", arguments={})
    told.delta("\n\nThis i", 20)
    told.tell(EventType.TOOL_RESULT, tool_id="t", tool_name="Read", result="", is_error=False)
    told.delta("s it: s", 29)
    told.tell(EventType.LLM_DONE, message_id="m", content="ignored for what was sent", usage=None)
    events = await told.out()
    texts = ["Let me see the file", "s", "\n\nThis i", "s it: s"]
    assert [text for _, text in chunks(events)] == texts
    order = [e.event.type for e in events]
    assert order.index(EventType.TOOL_CALL) == 2
    assert events[-1].event.data["content"] == "".join(texts)


async def test_an_event_of_another_agent_does_not_open_a_seam(store: StateStore) -> None:
    told = Told(store, 3600, SECRETIVE)
    worker = Source("w", agent_type="worker")
    half = len(KEY) // 2
    told.delta(f"It is {KEY[:half]}", 0)
    call = {"tool_id": "t", "tool_name": "Read", "arguments": {}}
    told.reporter.report(RUN, AgentEvent(EventType.TOOL_CALL, call, worker))
    told.tell(EventType.WARNING, message="the API is slow")
    told.delta(KEY[half:], 0)
    told.tell(EventType.COMPLETED, result="")
    assert "".join(text for _, text in chunks(await told.out())) == f"It is {MASK}"


async def test_no_event_of_a_run_shows_a_secret_wherever_it_stands(store: StateStore) -> None:
    told = Told(store, 3600, SECRETIVE)
    for form in KEY_FORMS.values():
        told.tell(EventType.STARTED, task=form, session_id="s-1")
        told.tell(EventType.WORKSPACE_PREPARED, path=f"/w/{form}", branch=form)
        told.tell(EventType.SESSION, sdk_session_id="s-1")
        told.tell(EventType.LLM_START, message_id="m", model=None)
        told.tell(EventType.REASONING, content=f"what if {form}")
        arguments = {"command": f"echo {form}", "env": [{"K": form}], form: 1}
        told.tell(EventType.TOOL_CALL, tool_id="t", tool_name="Bash", arguments=arguments)
        told.tell(EventType.TOOL_RESULT, tool_id="t", tool_name="Bash", result=form, is_error=False)
        told.tell(EventType.TODOS, todos=[{"content": form, "status": "pending"}])
        told.tell(EventType.WORKSPACE_CHANGED, files=[{"path": form, "status": "added"}])
        told.tell(EventType.WARNING, message=f"{form} {EXECUTOR_TOKEN}")
    told.tell(
        EventType.FAILED,
        error=f"login failed: {KEY}",
        error_code="auth_error",
        details=KEY_FORMS["url"],
        workspace={"path": KEY},
    )
    events = await told.out()
    shown = json.dumps([[event.event.data, event.task_title] for event in events])
    for form in (*KEY_FORMS.values(), EXECUTOR_TOKEN):
        core = form.strip("=")[:-2]
        assert core not in shown
        assert json.dumps(core)[1:-1] not in shown
    # The message that was open ends with the verdict's words, masked like it.
    assert [e.event.data["error"] for e in events[-2:]] == [f"login failed: {MASK}"] * 2
    assert events[0].task_title == f"about {MASK}"
    assert events[2].event.data == {"sdk_session_id": "s-1"}


async def test_what_another_run_calls_secret_is_ordinary_text_here(store: StateStore) -> None:
    told = Told(store, 3600, SECRETIVE)
    other = ExecutionRequest.model_validate({"task_id": 1, "subtask_id": 1, "prompt": "hi"})
    told.reporter.open(other)
    told.reporter.report(other.run, AgentEvent(EventType.WARNING, {"message": KEY}))
    (event,) = await told.out()
    assert event.event.data["message"] == KEY


async def test_the_logs_know_a_run_s_secrets_from_its_acceptance_on(store: StateStore) -> None:
    told = Told(store, 3600, SECRETIVE)
    assert KEY not in told.redactor.redact(f"refused {KEY}")
    told.tell(EventType.COMPLETED, result="")
    assert KEY not in told.redactor.redact(f"a late line {KEY}")


async def test_a_tokens_looks_are_enough_in_a_message(told: Told) -> None:
    for begin, end in pairwise((0, 5, 9, 20, 31)):
        told.delta("a ghp_0123456789abcdefABCDEF b."[begin:end], begin)
    told.tell(EventType.LLM_DONE, message_id="m", content="", usage=None)
    assert (await told.out())[-1].event.data["content"] == f"a {MASK} b."


async def test_titles_and_names_of_any_length_leave_an_event_within_its_bound(
    store: StateStore,
) -> None:
    long = ExecutionRequest.model_validate(
        {"task_id": 7, "subtask_id": 9, "prompt": "hi", "task_title": "\x01" * 10**6}
        | {"subtask_title": "s" * 10**6}
    )
    told = Told(store)
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


async def test_what_an_earlier_process_asked_has_expired_when_its_run_is_taken_up(
    store: StateStore,
) -> None:
    told = Told(store)
    told.reporter.forget(RUN.key)
    told.reporter.reopen(RunRecord(RUN, "running", 7, 40, "sid", {}, open_questions=["q"]))
    told.reporter.resume(REQUEST)
    told.tell(EventType.COMPLETED, result="")
    expired, _ = await told.out()
    assert (expired.seq, expired.event.type) == (8, EventType.INPUT_RESOLVED)
    assert expired.event.data == {"request_id": "q", "outcome": "expired"}


async def test_a_run_taken_up_goes_on_with_its_numbers_and_ends_its_old_messages(
    store: StateStore,
) -> None:
    told = Told(store)
    told.reporter.forget(RUN.key)
    source = Source("a")
    told.reporter.reopen(RunRecord(RUN, "running", 7, 40, "sid", {"m": source}))
    assert told.reporter.last_seq(RUN.key) == 7
    told.outbox.register_standing([RunStanding(subtask_id=RUN.subtask_id, seq=9)])
    told.reporter.resume(REQUEST)
    told.tell(EventType.WARNING, message="on it goes")
    told.tell(EventType.COMPLETED, result="")
    ended, after, _ = events = await told.out()
    assert [event.seq for event in events] == [10, 11, 12]  # the backend had more than the disk
    assert (ended.event.type, ended.event.source) == (EventType.LLM_ERROR, source)
    assert (ended.event.data["message_id"], ended.event.data["code"]) == ("m", "interrupted")
    assert (after.progress, after.task_title) == (40, "T")


async def test_a_question_from_before_a_restart_expires_when_its_run_is_taken_up(
    store: StateStore,
) -> None:
    told = Told(store)
    told.reporter.forget(RUN.key)
    told.reporter.reopen(RunRecord(RUN, "running", 7, 40, "sid", {}, ["q-1"]))
    told.reporter.resume(REQUEST)
    told.tell(EventType.COMPLETED, result="")
    ended, _ = await told.out()
    assert (ended.seq, ended.event.type) == (8, EventType.INPUT_RESOLVED)
    assert ended.event.data == {"request_id": "q-1", "outcome": "expired"}


@pytest.mark.parametrize(
    ("resolved", "verdict", "expected"),
    [
        (True, EventType.FAILED, "answered"),
        (False, EventType.FAILED, "expired"),
        (False, EventType.CANCELLED, "denied"),
    ],
)
async def test_no_question_stays_open_beyond_the_verdict(
    told: Told, resolved: bool, verdict: EventType, expected: str
) -> None:
    question = {"kind": "question", "tool_name": "AskUserQuestion", "tool_input": {}}
    told.tell(EventType.INPUT_REQUIRED, request_id="q-1", **question)
    if resolved:
        told.tell(EventType.INPUT_RESOLVED, request_id="q-1", outcome="answered")
    told.tell(verdict)
    events = await told.out()
    assert [event.seq for event in events] == [1, 2, 3]
    assert (events[1].event.type, events[2].event.terminal) == (EventType.INPUT_RESOLVED, True)
    assert events[1].event.data["outcome"] == expected


async def test_a_run_accepted_after_its_refusal_was_told_loses_none_of_its_events(
    store: StateStore,
) -> None:
    told = Told(store)
    told.reporter.forget(RUN.key)
    told.reporter.refuse(RUN, ErrorCode.BUSY, "later")  # still on its way
    told.reporter.open(REQUEST)
    told.tell(EventType.STARTED)
    told.tell(EventType.COMPLETED, result="")
    assert [(event.seq, event.event.type) for event in await told.out()] == [
        (1, EventType.FAILED),
        (2, EventType.STARTED),
        (3, EventType.COMPLETED),
    ]


async def test_a_message_of_any_length_is_remembered_no_further_than_it_can_be_told(
    told: Told,
) -> None:
    told.tell(EventType.LLM_START, message_id="m", model="x")
    piece = "abcdefgh" * 8 * 1024
    for n in range(40):
        told.delta(piece, n * len(piece))
    (text,) = (run.texts["m"] for run in told.reporter._runs.values())
    assert sum(map(len, text._sent)) <= MAX_EVENT_BYTES
    told.tell(EventType.LLM_DONE, message_id="m", content=piece * 40, usage=None)
    events = await told.out()
    done = events[-1].event.data
    assert (done["truncated"], done["full_length"]) == (True, 40 * len(piece))
    assert (piece * 40).startswith(done["content"])
    assert len(done["content"]) > MAX_EVENT_BYTES // 2
    chunks = [e.event.data["content"] for e in events if e.event.type == EventType.LLM_STREAM]
    assert "".join(chunks) == piece * 40
