"""Runs with hooks beside them: the stream is the same, whatever the hooks do."""

from __future__ import annotations

import asyncio
import logging
import queue
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple
from typing import Any

import pytest

from executor.hooks.base import AgentState, EventHook, Hook, TaskConfig
from executor.hooks.runner import HookSource
from executor.tasks.hooked import NO_VERDICT, HookedRunHandler
from executor.tasks.run_execution import RunExecution
from executor.tasks.run_handler import Run
from shared.errors import RunError
from shared.protocol.events import AgentEvent, EventType, RunRef
from shared.redaction import Redactor
from shared.status import ErrorCode
from tests.fakes.agent_jobs import make_request
from tests.fakes.run_handler import ScriptedRunHandler, Step, completed, text, tool_call

LIMIT_S = 20.0
LONG_S = 60.0
SECRET = "glpat-abcdefghijklmnopqrst"


@pytest.fixture(autouse=True)
async def _bounded() -> AsyncIterator[None]:
    async with asyncio.timeout(LIMIT_S):
        yield


class Notes(EventHook):
    """Writes down all that it is told, for all runs."""

    told: list[tuple[Any, ...]]
    made: int

    def __init__(self) -> None:
        type(self).made += 1
        self.note = type(self).told.append

    async def before_execution(self, config: TaskConfig) -> None:
        self.note(("before", config))

    async def on_agent_turn(self, turn: int, state: AgentState) -> None:
        self.note(("turn", turn))

    async def on_tool_call(
        self, turn: int, tool_name: str, tool_input: dict[str, Any], tool_output: Any
    ) -> None:
        self.note(("tool", tool_input, tool_output))

    async def on_response(self, turn: int, response: str) -> None:
        self.note(("response", response))

    async def after_execution(self, success: bool, error: str | None) -> None:
        self.note(("after", success, error))

    async def on_event(self, event: AgentEvent) -> None:
        self.note(("event", event.type))


@pytest.fixture
def notes() -> type[Notes]:
    return type("Notes", (Notes,), {"told": [], "made": 0})


def observed(
    script: Sequence[Step], *hooks: type[Hook], timeout_s: float = LONG_S, close_s: float = LONG_S
) -> HookedRunHandler:
    sources = [HookSource(hook.__name__, hook) for hook in hooks]
    return HookedRunHandler(
        ScriptedRunHandler(script), sources, Redactor(), timeout_s=timeout_s, close_s=close_s
    )


def begun(run: Run, told: list[AgentEvent]) -> RunExecution:
    """*run*, as the supervisor has it carried out."""
    return RunExecution(
        run, names={}, tell=told.append, ended=lambda: None, limit_s=None, interrupt_grace_s=0.01
    )


async def carried_out(run: Run) -> list[AgentEvent]:
    told: list[AgentEvent] = []
    execution = begun(run, told)
    await execution.wait_ended()
    await asyncio.sleep(0)  # what is called when it has ended
    return told


def hook_that(behave: Callable[[], None]) -> type[Hook]:
    class Behaving(Hook):
        async def before_execution(self, config: TaskConfig) -> None:
            behave()

    return Behaving


@contextmanager
def blocking() -> Iterator[Callable[[], None]]:
    """Something that blocks its thread until the end of the context."""
    released: queue.SimpleQueue[None] = queue.SimpleQueue()
    try:
        yield released.get
    finally:
        released.put(None)


SCRIPT: list[Step] = [
    AgentEvent(EventType.STARTED, {"task": "scripted"}),
    tool_call(1, arguments={"command": "ls"}),
    AgentEvent(
        EventType.TOOL_RESULT,
        {"tool_id": "1", "tool_name": "Bash", "result": "README", "is_error": False},
    ),
    *text("m", "all ", "done"),
    completed(),
]


async def test_a_hook_sees_a_run_from_its_beginning_to_its_end(notes: type[Notes]) -> None:
    handler = observed(SCRIPT, notes)
    await carried_out(handler.start(make_request()))
    await handler.settled()
    calls = [told for told in notes.told if told[0] != "event"]
    assert calls[0][1].run_id == "1"
    assert calls[1:] == [
        ("turn", 1),
        ("tool", {"command": "ls"}, "README"),
        ("turn", 2),
        ("response", "all done"),
        ("after", True, None),
    ]


async def test_a_hook_for_events_sees_all_but_pieces_of_text(notes: type[Notes]) -> None:
    handler = observed(SCRIPT, notes)
    events = await carried_out(handler.start(make_request()))
    await handler.settled()
    seen = [told[1] for told in notes.told if told[0] == "event"]
    assert seen == [event.type for event in events if event.type != EventType.LLM_STREAM]


async def test_a_run_is_told_to_its_verdict_while_its_hook_blocks() -> None:
    with blocking() as block:
        handler = observed(SCRIPT, hook_that(block))
        events = await carried_out(handler.start(make_request()))
        assert events == SCRIPT  # all of it, and the hook has not even begun to see it
    await handler.settled()


async def test_a_blocking_hook_keeps_no_other_hook_from_seeing_the_run() -> None:
    ended, loop = asyncio.Event(), asyncio.get_running_loop()
    with blocking() as block:

        class Ends(Hook):
            async def after_execution(self, success: bool, error: str | None) -> None:
                loop.call_soon_threadsafe(ended.set)

        handler = observed(SCRIPT, hook_that(block), Ends)
        await carried_out(handler.start(make_request()))
        await ended.wait()  # while the first one still blocks
    await handler.settled()


async def test_what_goes_wrong_with_a_hook_is_told_while_the_run_goes_on() -> None:
    noticed, loop = asyncio.Event(), asyncio.get_running_loop()

    class Notices(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            loop.call_soon(noticed.set)

    logging.getLogger("hooks").addHandler(listening := Notices())

    def fail() -> None:
        raise ValueError("not for the stream")

    gate = asyncio.Event()
    handler = observed([tool_call(1), gate, tool_call(2), completed()], hook_that(fail))
    events = handler.start(make_request()).events()
    first = await anext(events)
    await noticed.wait()
    gate.set()
    rest = [event async for event in events]
    assert first.type == EventType.TOOL_CALL
    assert [event.type for event in rest] == [
        EventType.WARNING,
        EventType.TOOL_CALL,
        EventType.COMPLETED,
    ]
    assert rest[0].data["message"] == "hook Behaving: before_execution raised ValueError"
    await handler.settled()
    logging.getLogger("hooks").removeHandler(listening)


async def test_every_run_has_hooks_of_its_own(notes: type[Notes]) -> None:
    handler = observed([completed()], notes)
    for number in (1, 2):
        await carried_out(handler.start(make_request(subtask_id=number)))
    await handler.settled()
    assert notes.made == 2


async def test_hooks_see_no_secret(notes: type[Notes]) -> None:
    script = [
        tool_call(1, arguments={"command": f"curl -H {SECRET}"}),
        AgentEvent(
            EventType.TOOL_RESULT,
            {"tool_id": "1", "tool_name": "Bash", "result": [SECRET], "is_error": False},
        ),
        *text("m", f"it is {SECRET}"),
        AgentEvent(EventType.FAILED, {"error": f"bad {SECRET}", "error_code": "agent_error"}),
    ]
    handler = observed(script, notes)
    request = make_request(
        prompt=f"use {SECRET}",
        git_url=f"https://me:{SECRET}@example.com/r.git",
        git_token=SECRET,
        system_prompt=f"never say {SECRET}",
    )
    events = await carried_out(handler.start(request))
    await handler.settled()
    assert SECRET not in repr(notes.told)
    config = next(told[1] for told in notes.told if told[0] == "before")
    assert config.repo_url == "https://example.com/r.git"
    assert SECRET not in repr(astuple(config))
    assert SECRET in repr(events)  # what is told is the reporter's to mask


async def test_a_run_that_goes_on_since_before_this_process_is_observed_from_here(
    notes: type[Notes],
) -> None:
    handler = observed([], notes)
    living = ScriptedRunHandler(SCRIPT).start(make_request())
    followed = handler.follow([RunRef(7, 8, 1), RunRef(7, 8, 2)], {("8", 2): living})
    assert set(followed) == {("8", 2)}
    events = await carried_out(followed["8", 2])
    await handler.settled()
    assert events == SCRIPT
    assert notes.told[0] == ("before", TaskConfig(run_id="8", session_id="7", attempt=2))
    assert notes.told[-1] == ("after", True, None)


async def test_a_hook_is_told_what_a_request_brings_by_name(notes: type[Notes]) -> None:
    handler = observed([completed()], notes)
    request = make_request(
        bot=[{"mcp_servers": {"docs": {"url": "https://example.com", "headers": {"k": SECRET}}}}],
        attachments=[{"filename": "a.txt", "content_base64": ""}],
        branch_name="main",
        max_turns=7,
    )
    await carried_out(handler.start(request))
    await handler.settled()
    config = notes.told[0][1]
    assert (config.mcp_servers, config.attachments) == (("docs",), ("a.txt",))
    assert (config.git_branch, config.max_turns, config.prompt) == ("main", 7, "HELLO")


async def test_a_run_that_raises_ends_its_hooks_with_the_reason(notes: type[Notes]) -> None:
    for error, told in (
        (RunError(ErrorCode.CLONE_FAILED, "no such branch"), "no such branch"),
        (ValueError(SECRET), "internal error: ValueError"),
    ):
        handler = observed([error], notes)
        await carried_out(handler.start(make_request()))
        await handler.settled()
        assert notes.told[-1] == ("after", False, told)


async def test_a_run_that_is_stopped_without_a_verdict_ends_its_hooks(notes: type[Notes]) -> None:
    inner = ScriptedRunHandler([tool_call(1), asyncio.Event()])
    source = HookSource("notes", notes)
    handler = HookedRunHandler(inner, [source], Redactor(), timeout_s=LONG_S)
    execution = begun(handler.start(make_request()), [])
    await inner.started.get()
    execution.park()
    await execution.wait_ended()
    await asyncio.sleep(0)
    await handler.settled()
    assert notes.told[-1] == ("after", False, NO_VERDICT)


async def test_hooks_are_told_the_verdict_that_the_backend_is_told(notes: type[Notes]) -> None:
    timed_out = RunError(ErrorCode.TIMED_OUT, "too long")
    ends: list[tuple[Callable[[RunExecution], None], str]] = [
        (lambda execution: execution.cancel("enough"), "cancelled: enough"),
        (lambda execution: execution.fail(timed_out), str(timed_out)),
    ]
    for end, error in ends:
        inner = ScriptedRunHandler([asyncio.Event()])
        source = HookSource("notes", notes)
        handler = HookedRunHandler(inner, [source], Redactor(), timeout_s=LONG_S)
        told: list[AgentEvent] = []
        execution = begun(handler.start(make_request()), told)
        await inner.started.get()
        end(execution)
        await execution.wait_ended()
        await asyncio.sleep(0)
        await handler.settled()
        assert told[-1].terminal
        assert notes.told[-1] == ("after", False, error)


async def test_a_cancel_counts_for_hooks_although_the_run_was_completed(
    notes: type[Notes],
) -> None:
    gate = asyncio.Event()

    async def faster(reason: str | None) -> None:
        gate.set()

    handler = observed([gate, completed()], notes)
    told: list[AgentEvent] = []
    execution = begun(handler.start(make_request()), told)
    execution.run.cancel = faster  # type: ignore[method-assign] # an agent that completes instead
    execution.cancel(None)
    await execution.wait_ended()
    await asyncio.sleep(0)
    await handler.settled()
    assert [event.type for event in told] == [EventType.CANCELLED]
    assert notes.told[-1] == ("after", False, "cancelled")


async def test_a_hook_for_one_kind_of_event_alone_is_told_of_it_and_of_the_end() -> None:
    told: list[Any] = []

    class Todos(EventHook):
        events = frozenset({EventType.TODOS})

        async def on_event(self, event: AgentEvent) -> None:
            told.append(event.data["todos"][0]["content"])

        async def after_execution(self, success: bool, error: str | None) -> None:
            told.append(error)

    todo = {"content": f"hide {SECRET}", "status": "pending"}
    script = [
        tool_call(1),
        AgentEvent(EventType.TODOS, {"todos": [todo]}),
        AgentEvent(EventType.FAILED, {"error": f"bad {SECRET}", "error_code": "agent_error"}),
    ]
    handler = observed(script, Todos)
    await carried_out(handler.start(make_request(git_token=SECRET)))
    await handler.settled()
    assert told == ["hide ***", "bad ***"]


async def test_an_event_that_no_hook_can_be_told_of_is_told_all_the_same(
    notes: type[Notes],
) -> None:
    strange = AgentEvent(EventType.TODOS, {"todos": 7})
    handler = observed([strange, completed()], notes)
    events = await carried_out(handler.start(make_request()))
    assert [event.type for event in events] == [EventType.TODOS, EventType.COMPLETED]
    await handler.settled()
    assert notes.told[-1] == ("after", True, None)


async def test_closing_waits_for_the_hooks_of_runs_that_have_ended(notes: type[Notes]) -> None:
    handler = observed(SCRIPT, notes)
    await carried_out(handler.start(make_request()))
    await handler.close()
    assert notes.told[-1] == ("after", True, None)


async def test_closing_cuts_off_hooks_that_take_too_long() -> None:
    hangs, cut_off = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    class Hangs(Hook):
        async def after_execution(self, success: bool, error: str | None) -> None:
            loop.call_soon_threadsafe(hangs.set)
            try:
                await asyncio.Event().wait()
            finally:
                loop.call_soon_threadsafe(cut_off.set)

    handler = observed(SCRIPT, Hangs, close_s=0.01)
    await carried_out(handler.start(make_request()))
    await hangs.wait()
    await handler.close()
    await cut_off.wait()


async def test_a_warning_comes_before_the_verdict_that_nothing_may_follow(
    caplog: pytest.LogCaptureFixture,
) -> None:
    gate = asyncio.Event()

    class Seen(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            loop.call_soon_threadsafe(gate.set)

    def fail() -> None:
        raise ZeroDivisionError

    loop = asyncio.get_running_loop()
    logger, seen = logging.getLogger("hooks"), Seen(logging.WARNING)
    logger.addHandler(seen)
    try:
        handler = observed([gate, completed()], hook_that(fail))
        events = await carried_out(handler.start(make_request()))
    finally:
        logger.removeHandler(seen)
    assert [event.type for event in events] == [EventType.WARNING, EventType.COMPLETED]
    await handler.settled()


async def test_the_hooks_of_a_run_that_goes_on_are_not_waited_for() -> None:
    begun, loop = asyncio.Event(), asyncio.get_running_loop()

    def begin() -> None:
        loop.call_soon_threadsafe(begun.set)

    handler = observed([asyncio.Event()], hook_that(begin))
    run = asyncio.create_task(carried_out(handler.start(make_request())))
    await begun.wait()
    await handler.settled()
    assert not run.done()
    run.cancel()
    await asyncio.wait({run})
    await handler.close()
