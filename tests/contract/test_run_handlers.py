"""What every RunHandler keeps, whoever carries the runs out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import pytest

from executor.agents.protocol import TurnEnd
from executor.hooks.base import EventHook, Hook, TaskConfig
from executor.hooks.runner import HookSource
from executor.tasks.containers.handler import ContainerRunHandler
from executor.tasks.hooked import HookedRunHandler
from executor.tasks.in_process import InProcessRunHandler
from executor.tasks.questions import UserInput
from executor.tasks.run_handler import Run, RunHandler
from shared.errors import ProtocolError, Refusal
from shared.protocol.events import AgentEvent, EventType
from shared.protocol.local import Input
from shared.redaction import Redactor
from shared.status import ErrorCode
from tests.fakes.agent import Asks, ScriptedAgent, in_process
from tests.fakes.agent_jobs import make_request
from tests.fakes.inner_executor import LoopbackPool, in_containers
from tests.fakes.run_handler import ScriptedRunHandler, completed, tool_call

LIMIT_SECONDS = 30.0

ASKING = UserInput(timeout_s=600, run_timeout_s=600)


class Subject(Protocol):
    """One implementation, and how a test makes its runs stand still or fail."""

    @property
    def handler(self) -> RunHandler: ...

    def stand_before_turn(self) -> None:
        """The next run is prepared for ever."""

    async def stands(self) -> None:
        """Wait until it is."""

    def stand_in_turn(self) -> asyncio.Event:
        """The next runs tell one tool call and then wait for the gate that this returns."""

    def ask_in_turn(self, rules: UserInput) -> None:
        """The next runs ask their user whether ``ls`` may be run, and complete."""

    def fail(self) -> None:
        """The next run's agent reports an error."""

    def nothing_goes_on(self) -> bool:
        """Whether no run is being carried out, and no agent kept for another turn."""

    def nothing_was_made(self) -> bool:
        """Whether no run has left anything."""


class Scripted:
    """The twin for tests."""

    def __init__(self) -> None:
        self.handler = ScriptedRunHandler()

    def stand_before_turn(self) -> None:
        self.handler.script = [asyncio.Event(), completed()]

    async def stands(self) -> None:
        await self.handler.started.get()

    def stand_in_turn(self) -> asyncio.Event:
        gate = asyncio.Event()
        self.handler.script = [tool_call(1), gate, completed()]
        return gate

    def ask_in_turn(self, rules: UserInput) -> None:
        self.handler.user_input = rules
        self.handler.script = ["ask", completed()]

    def fail(self) -> None:
        data = {"error": "out of tea", "error_code": "agent_error"}
        self.handler.script = [AgentEvent(EventType.FAILED, data)]

    def nothing_goes_on(self) -> bool:
        return self.handler.ended.qsize() == len(self.handler.requests)

    def nothing_was_made(self) -> bool:
        return self.handler.started.empty()


class InProcess:
    """The real one, with an agent that has no process."""

    def __init__(self, handler: InProcessRunHandler, agent: ScriptedAgent, home: Path) -> None:
        self.handler = handler
        self._agent = agent
        self._workspace = home / "workspace"

    def stand_before_turn(self) -> None:
        self._agent.opening.clear()

    async def stands(self) -> None:
        while await self._agent.reached.get() != "open":
            pass

    def stand_in_turn(self) -> asyncio.Event:
        gate = asyncio.Event()
        self._agent.script = [tool_call(1), gate, TurnEnd("done")]
        return gate

    def ask_in_turn(self, rules: UserInput) -> None:
        self.handler.user_input = rules
        self._agent.script = [Asks("permission", "Bash", {"command": "ls"}), TurnEnd("done")]

    def fail(self) -> None:
        self._agent.script = [TurnEnd(error="out of tea", error_code=ErrorCode.AGENT_ERROR)]

    def nothing_goes_on(self) -> bool:
        return not any(session.alive for session in self._agent.sessions)

    def nothing_was_made(self) -> bool:
        return not self._workspace.exists() and self._agent.reached.empty()


class Observed(InProcess):
    """The same with hooks, of which none behaves."""

    def __init__(self, inner: InProcessRunHandler, agent: ScriptedAgent, home: Path) -> None:
        super().__init__(inner, agent, home)
        self._inner = inner
        sources = [HookSource(kind.__name__, kind) for kind in (Raises, Hangs)]
        self.handler = HookedRunHandler(  # type: ignore[assignment] # another kind of handler
            inner, sources, Redactor(), timeout_s=LIMIT_SECONDS, close_s=0.01
        )

    def ask_in_turn(self, rules: UserInput) -> None:
        self._inner.user_input = rules
        self._agent.script = [Asks("permission", "Bash", {"command": "ls"}), TurnEnd("done")]


class InContainer(InProcess):
    """The same agent behind the HTTP API of docker mode, in a container that needs no engine."""

    def __init__(
        self, handler: ContainerRunHandler, pool: LoopbackPool, agent: ScriptedAgent, home: Path
    ) -> None:
        self.handler = handler  # type: ignore[assignment] # another kind of handler
        self._agent = agent
        self._workspace = home / "workspace"
        self._pool = pool

    def nothing_goes_on(self) -> bool:
        return super().nothing_goes_on() and not self._pool.inside

    def nothing_was_made(self) -> bool:
        return super().nothing_was_made() and not self._pool.made


class Raises(Hook):
    """At the end only: what it does before would be warned of in the stream."""

    async def after_execution(self, success: bool, error: str | None) -> None:
        raise ValueError


class Hangs(EventHook):
    """From the beginning."""

    async def before_execution(self, config: TaskConfig) -> None:
        await asyncio.Event().wait()


@asynccontextmanager
async def scripted_subject(_home: Path) -> AsyncIterator[Subject]:
    yield Scripted()


@asynccontextmanager
async def in_process_subject(home: Path) -> AsyncIterator[Subject]:
    agent = ScriptedAgent()
    async with in_process(agent, home) as handler:
        yield InProcess(handler, agent, home)


@asynccontextmanager
async def observed_subject(home: Path) -> AsyncIterator[Subject]:
    agent = ScriptedAgent()
    async with in_process(agent, home) as handler:
        subject = Observed(handler, agent, home)
        try:
            yield subject
        finally:
            await subject.handler.close()


@asynccontextmanager
async def in_container_subject(home: Path) -> AsyncIterator[Subject]:
    agent = ScriptedAgent()
    async with in_containers(agent, home) as (handler, pool):
        yield InContainer(handler, pool, agent, home)


@pytest.fixture(
    params=[
        pytest.param(scripted_subject, id="scripted"),
        pytest.param(in_process_subject, id="in process"),
        pytest.param(observed_subject, id="observed by hooks"),
        pytest.param(in_container_subject, id="container"),
    ]
)
async def subject(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Subject]:
    async with request.param(tmp_path) as made:
        yield made


async def carry_out(run: Run) -> list[AgentEvent]:
    """Everything that a run tells, which must end with its one verdict."""
    async with asyncio.timeout(LIMIT_SECONDS):
        events = [event async for event in run.events()]
    assert [event.terminal for event in events] == [False] * (len(events) - 1) + [True]
    return events


async def until_tool_call(run: Run) -> AsyncGenerator[AgentEvent]:
    """A run's events, read up to its tool call."""
    events = run.events()
    async with asyncio.timeout(LIMIT_SECONDS):
        while (await anext(events)).type != EventType.TOOL_CALL:
            pass
    return events


async def until_asked(run: Run) -> tuple[AsyncGenerator[AgentEvent], dict[str, Any]]:
    """A run's events, read up to its question, and that question."""
    events = run.events()
    async with asyncio.timeout(LIMIT_SECONDS):
        while (event := await anext(events)).type != EventType.INPUT_REQUIRED:
            pass
    return events, dict(event.data)


def reply(request_id: str, decision: str = "allow", **more: Any) -> Input:
    raw = {"task_id": 1, "subtask_id": 1, "request_id": request_id, "decision": decision}
    return Input.model_validate(raw | more)


def of_question(events: list[AgentEvent]) -> list[tuple[str, Any]]:
    """What was told of questions, and the result of the tool that asked."""
    fields = {EventType.INPUT_RESOLVED: "outcome", EventType.TOOL_RESULT: "result"}
    return [(event.type, event.data.get(fields.get(EventType(event.type), ""))) for event in events]


async def rest_of(events: AsyncGenerator[AgentEvent]) -> list[AgentEvent]:
    async with asyncio.timeout(LIMIT_SECONDS):
        return [event async for event in events]


async def test_a_run_ends_with_exactly_one_verdict_and_it_is_last(subject: Subject) -> None:
    subject.handler.check(make_request())
    events = await carry_out(subject.handler.start(make_request()))
    assert events[0].type == EventType.STARTED
    assert events[-1].type == EventType.COMPLETED
    assert events[-1].data["result"] == "done"


async def test_an_agent_that_fails_is_a_failed_run_with_its_own_words(subject: Subject) -> None:
    subject.fail()
    verdict = (await carry_out(subject.handler.start(make_request())))[-1]
    assert verdict.type == EventType.FAILED
    assert (verdict.data["error"], verdict.data["error_code"]) == ("out of tea", "agent_error")


async def test_a_run_does_nothing_before_its_events_are_read(subject: Subject) -> None:
    subject.handler.start(make_request()).events()
    await asyncio.sleep(0)  # a task that it had made would begin now
    assert subject.nothing_was_made()


async def test_a_run_cancelled_before_its_first_event_is_cancelled(subject: Subject) -> None:
    run = subject.handler.start(make_request())
    await run.cancel("too early")
    verdict = (await carry_out(run))[-1]
    assert verdict.type == EventType.CANCELLED
    assert verdict.data["reason"] == "too early"
    assert subject.nothing_goes_on()


async def test_a_run_cancelled_while_it_is_prepared_is_cancelled(subject: Subject) -> None:
    subject.stand_before_turn()
    run = subject.handler.start(make_request())
    telling = asyncio.create_task(carry_out(run))
    async with asyncio.timeout(LIMIT_SECONDS):
        await subject.stands()
    await run.cancel("changed my mind")
    verdict = (await telling)[-1]
    assert verdict.type == EventType.CANCELLED
    assert verdict.data["reason"] == "changed my mind"
    assert subject.nothing_goes_on()


async def test_a_run_cancelled_in_its_turn_is_cancelled_however_often(subject: Subject) -> None:
    subject.stand_in_turn()
    run = subject.handler.start(make_request())
    events = await until_tool_call(run)
    await run.cancel(None)
    await run.cancel(None)
    rest = await rest_of(events)
    assert [event.type for event in rest if event.terminal] == [EventType.CANCELLED]
    assert rest[-1].terminal
    assert "reason" not in rest[-1].data


async def test_a_cancel_after_the_verdict_changes_nothing(subject: Subject) -> None:
    run = subject.handler.start(make_request())
    await carry_out(run)
    await run.cancel("too late")
    again = await carry_out(subject.handler.start(make_request(subtask_id=3)))
    assert again[-1].type == EventType.COMPLETED


async def test_closing_the_events_ends_everything_of_the_run(subject: Subject) -> None:
    subject.stand_in_turn()
    events = await until_tool_call(subject.handler.start(make_request()))
    await events.aclose()
    assert subject.nothing_goes_on()


@pytest.mark.parametrize("place", ["before the turn", "in the turn"])
async def test_cancelling_the_reader_ends_everything_of_the_run(
    subject: Subject, place: str
) -> None:
    if place == "in the turn":
        subject.stand_in_turn()
        run = subject.handler.start(make_request())
        events = await until_tool_call(run)
        reading = asyncio.create_task(rest_of(events))
        await asyncio.sleep(0)  # it has begun to wait for the next event
    else:
        subject.stand_before_turn()
        run = subject.handler.start(make_request())
        reading = asyncio.create_task(carry_out(run))
        async with asyncio.timeout(LIMIT_SECONDS):
            await subject.stands()
    reading.cancel()
    await asyncio.wait({reading}, timeout=LIMIT_SECONDS)
    assert reading.cancelled()
    assert subject.nothing_goes_on()
    assert set(await run.account()) == {"workspace", "statistics"}


async def test_an_answer_that_nobody_waits_for_says_so(subject: Subject) -> None:
    subject.stand_in_turn()
    run = subject.handler.start(make_request())
    assert await run.answer(reply("nobody asked")) == "unknown_request"
    events = await until_tool_call(run)
    assert await run.answer(reply("nobody asked")) == "unknown_request"
    await events.aclose()


async def test_a_question_comes_while_the_agent_waits_and_its_answer_lets_it_go_on(
    subject: Subject,
) -> None:
    subject.ask_in_turn(ASKING)
    run = subject.handler.start(make_request())
    assert run.waits_for is None
    events, asked = await until_asked(run)
    assert run.waits_for == "user"
    assert (asked["kind"], asked["tool_name"]) == ("permission", "Bash")
    assert asked["tool_input"] == {"command": "ls"}
    with pytest.raises(ProtocolError):  # and it stays open
        await run.answer(reply(asked["request_id"], "answer", message="what?"))
    assert await run.answer(reply(asked["request_id"])) == "accepted"
    assert run.waits_for is None
    assert await run.answer(reply(asked["request_id"])) == "accepted"
    assert of_question(await rest_of(events)) == [
        (EventType.INPUT_RESOLVED, "answered"),
        (EventType.TOOL_RESULT, "go on"),
        (EventType.COMPLETED, None),
    ]


async def test_a_denial_reaches_the_agent_with_the_users_words(subject: Subject) -> None:
    subject.ask_in_turn(ASKING)
    run = subject.handler.start(make_request())
    events, asked = await until_asked(run)
    assert await run.answer(reply(asked["request_id"], "deny", message="not here")) == "accepted"
    resolved, told, _ = of_question(await rest_of(events))
    assert resolved == (EventType.INPUT_RESOLVED, "denied")
    assert "not here" in told[1]


async def test_a_question_without_an_answer_in_time_expires_and_the_agent_goes_on(
    subject: Subject,
) -> None:
    subject.ask_in_turn(UserInput(timeout_s=0.01, run_timeout_s=60))
    run = subject.handler.start(make_request())
    events, asked = await until_asked(run)
    resolved, told, verdict = of_question(await rest_of(events))
    assert resolved == (EventType.INPUT_RESOLVED, "expired")
    assert "has not answered in time" in told[1]
    assert verdict[0] == EventType.COMPLETED
    assert await run.answer(reply(asked["request_id"])) == "expired"


@pytest.mark.parametrize(
    "rules",
    [
        UserInput(timeout_s=0, run_timeout_s=60),
        UserInput(timeout_s=60, run_timeout_s=60, answerable=lambda: False),
    ],
)
async def test_where_nobody_can_answer_nothing_is_asked(subject: Subject, rules: UserInput) -> None:
    subject.ask_in_turn(rules)
    events = await carry_out(subject.handler.start(make_request()))
    asking = {EventType.INPUT_REQUIRED, EventType.INPUT_RESOLVED}
    assert not asking & {event.type for event in events}
    assert (EventType.TOOL_RESULT, "policy") in of_question(events)


async def test_a_run_cancelled_while_a_question_waits_is_cancelled(subject: Subject) -> None:
    subject.ask_in_turn(ASKING)
    run = subject.handler.start(make_request())
    events, asked = await until_asked(run)
    await run.cancel("never mind")
    assert await run.answer(reply(asked["request_id"])) == "expired"
    verdict = (await rest_of(events))[-1]
    assert (verdict.type, verdict.data["reason"]) == (EventType.CANCELLED, "never mind")


async def test_a_run_ended_while_a_question_waits_leaves_nothing(subject: Subject) -> None:
    subject.ask_in_turn(ASKING)
    run = subject.handler.start(make_request())
    events, asked = await until_asked(run)
    await events.aclose()
    assert subject.nothing_goes_on()
    assert await run.answer(reply(asked["request_id"])) == "expired"


async def test_an_unknown_agent_is_refused_with_the_known_ones_and_nothing_is_made(
    subject: Subject,
) -> None:
    with pytest.raises(Refusal, match="claude_code") as refused:
        subject.handler.check(make_request(agent_type="nobody"))
    assert refused.value.error_code == ErrorCode.UNSUPPORTED_AGENT
    assert subject.nothing_was_made()


async def test_runs_go_on_side_by_side(subject: Subject) -> None:
    gate = subject.stand_in_turn()
    first, second = [subject.handler.start(make_request(task_id=n, subtask_id=n)) for n in (1, 2)]
    first_events, second_events = await until_tool_call(first), await until_tool_call(second)
    await first.cancel(None)
    assert (await rest_of(first_events))[-1].type == EventType.CANCELLED
    gate.set()
    assert (await rest_of(second_events))[-1].type == EventType.COMPLETED


async def test_after_winding_down_runs_go_on_and_leave_nothing(subject: Subject) -> None:
    gate = subject.stand_in_turn()
    events = await until_tool_call(subject.handler.start(make_request()))
    subject.handler.wind_down()
    subject.handler.wind_down()
    gate.set()
    assert (await rest_of(events))[-1].type == EventType.COMPLETED
    assert subject.nothing_goes_on()


async def test_a_session_closed_during_its_run_is_over_with_it(subject: Subject) -> None:
    gate = subject.stand_in_turn()
    events = await until_tool_call(subject.handler.start(make_request()))
    await subject.handler.close_session(1)
    gate.set()
    assert (await rest_of(events))[-1].type == EventType.COMPLETED
    assert subject.nothing_goes_on()


async def test_closing_is_harmless_also_when_there_is_nothing_to_close(subject: Subject) -> None:
    await subject.handler.close_session("never seen")
    await carry_out(subject.handler.start(make_request()))
    await subject.handler.close_session(1)
    assert subject.nothing_goes_on()
    await carry_out(subject.handler.start(make_request(subtask_id=3)))
    await subject.handler.close()
    await subject.handler.close()
    assert subject.nothing_goes_on()
