"""What a run in a container does when something goes wrong, or moves; without an engine."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from pydantic import SecretStr

from executor.agents.factory import AgentFactory
from executor.agents.protocol import TurnEnd
from executor.delivery.run_rows import RunRecord
from executor.delivery.session_rows import SessionRecord
from executor.tasks.containers.client import ContainerClient, Unreachable
from executor.tasks.containers.handler import MOVED, ContainerRunHandler
from executor.tasks.containers.held import HeldContainer, Wanted
from executor.tasks.containers.relayed import Relayed
from executor.tasks.containers.run import ContainerRun
from executor.tasks.in_process import MOVED as MOVED_OUT
from executor.tasks.questions import AnswerStanding
from executor.tasks.run_handler import Run
from shared.containers.death import Death
from shared.containers.errors import EngineUnavailable
from shared.containers.pool import Endpoint
from shared.errors import ProtocolError, Refusal, RunError, WegentError
from shared.protocol.events import AgentEvent, EventType, RunRef
from shared.protocol.local import Input
from shared.status import ErrorCode
from tests.fakes.agent import ScriptedAgent, in_process
from tests.fakes.agent_jobs import make_request
from tests.fakes.inner_executor import LoopbackPool, in_containers
from tests.fakes.run_handler import tool_call
from tests.fakes.wire import Wire, open_wire

LIMIT_S = 30.0


@dataclass
class Site:
    handler: ContainerRunHandler
    pool: LoopbackPool
    agent: ScriptedAgent
    folder: Path

    def stand(self) -> asyncio.Event:
        """Runs tell one tool call, and wait for the gate that this returns."""
        gate = asyncio.Event()
        self.agent.script = [tool_call(1), gate, tool_call(2), TurnEnd("done")]
        return gate


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    agent = ScriptedAgent()
    async with in_containers(agent, tmp_path, patience_s=5.0, look_s=0.3) as (handler, pool):
        yield Site(handler, pool, agent, tmp_path)


async def rest_of(events: AsyncGenerator[AgentEvent]) -> list[AgentEvent]:
    async with asyncio.timeout(LIMIT_S):
        return [event async for event in events]


async def carry_out(run: Run) -> list[AgentEvent]:
    return await rest_of(run.events())


async def until(
    events: AsyncGenerator[AgentEvent], kind: str = EventType.TOOL_CALL
) -> list[AgentEvent]:
    """The events up to the next one of this kind."""
    told: list[AgentEvent] = []
    async with asyncio.timeout(LIMIT_S):
        while not told or told[-1].type != kind:
            told.append(await anext(events))
    return told


def warnings(events: list[AgentEvent]) -> list[str]:
    return [event.data["message"] for event in events if event.type == EventType.WARNING]


def calls(events: list[AgentEvent]) -> list[str]:
    return [event.data["tool_id"] for event in events if event.type == EventType.TOOL_CALL]


# --- A container that dies ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("death", "code", "said"),
    [
        (Death(137, log=("one", "killed")), "container_failed", "exit code 137"),
        (Death(137, out_of_memory=True), "out_of_memory", "out of memory"),
        (Death(removed=True), "container_failed", "removed by somebody else"),
    ],
)
async def test_a_container_that_dies_is_a_failed_run_with_the_reason(
    site: Site, death: Death, code: str, said: str
) -> None:
    site.stand()
    events = site.handler.start(make_request()).events()
    await until(events)
    await site.pool.kill("1", death)
    verdict = (await rest_of(events))[-1]
    assert (verdict.type, verdict.data["error_code"]) == (EventType.FAILED, code)
    assert said in verdict.data["error"]
    assert verdict.data.get("details") == ("\n".join(death.log) or None)
    assert not site.pool.inside


async def test_when_the_engine_went_away_the_run_goes_on_in_another_container(site: Site) -> None:
    gate = site.stand()
    events = site.handler.start(make_request()).events()
    before = await until(events)
    await site.pool.kill("1", Death(255, engine_lost=True))
    gate.set()
    after = await rest_of(events)
    assert after[-1].type == EventType.COMPLETED
    assert "engine went away" in warnings(after)[0]
    assert len(site.pool.made) == 2
    # What was told is not told again: the new container goes on in the log of the old one.
    origins = [event.origin for event in before + after if event.origin is not None]
    assert origins == sorted(set(origins))
    prompts = [str(job.request.prompt) for job in site.agent.jobs]
    assert prompts[0] == "HELLO"
    assert prompts[1].endswith("HELLO")
    assert "cut off" in prompts[1]


async def test_when_the_engine_goes_away_again_the_run_fails(site: Site) -> None:
    site.stand()
    events = site.handler.start(make_request()).events()
    await until(events)
    await site.pool.kill("1", Death(255, engine_lost=True))
    await until(events)
    await site.pool.kill("1", Death(255, engine_lost=True))
    verdict = (await rest_of(events))[-1]
    assert verdict.data["error_code"] == ErrorCode.CONTAINER_FAILED
    assert len(site.pool.made) == 2


async def test_without_an_engine_a_run_fails_and_says_so(site: Site) -> None:
    site.pool.engine_is_away = True
    verdict = (await carry_out(site.handler.start(make_request())))[-1]
    assert verdict.data["error_code"] == ErrorCode.CONTAINER_FAILED
    assert "no engine answers" in verdict.data["error"]


async def test_an_agent_that_crashed_for_want_of_memory_says_so(site: Site) -> None:
    site.agent.script = [TurnEnd(error="exit code 137", error_code=ErrorCode.AGENT_CRASHED)]
    site.pool.out_of_memory = True
    verdict = (await carry_out(site.handler.start(make_request())))[-1]
    assert verdict.data["error_code"] == ErrorCode.OUT_OF_MEMORY
    assert "exit code 137" in verdict.data["error"]


async def test_a_run_waits_as_long_as_all_containers_are_in_use(site: Site) -> None:
    site.pool.taking.clear()
    run = site.handler.start(make_request())
    telling = asyncio.create_task(carry_out(run))
    await asyncio.sleep(0)
    await run.cancel("no longer")
    assert (await telling)[-1].type == EventType.CANCELLED
    site.pool.taking.set()


# --- An executor that dies, or stops --------------------------------------------------------------


async def test_a_run_that_is_let_go_goes_on_and_is_followed_again_without_gap_or_repeat(
    site: Site,
) -> None:
    gate = site.stand()
    run = site.handler.start(make_request())
    events = run.events()
    before = await until(events)
    assert run.goes_on_alone
    run.let_go()
    await events.aclose()
    assert site.pool.inside["1"].supervisor.running_task_ids() == [1]
    gate.set()
    record = RunRecord(RunRef(1, 1), "running", 9, 40, None, {}, origin=before[-1].origin)
    endpoint = site.pool.inside["1"].endpoint
    living = await site.handler.take_up([record], {"1": endpoint})
    after = await carry_out(living[record.run.key])
    assert after[-1].data["result"] == "done"
    assert calls(before + after) == ["1", "2"]
    origins = [event.origin for event in before + after]
    assert origins == list(range(1, len(origins) + 1))
    assert not site.pool.inside


async def test_a_run_that_is_ended_does_not_go_on_alone(site: Site) -> None:
    site.stand()
    run = site.handler.start(make_request())
    assert not run.goes_on_alone
    run.let_go()
    events = run.events()
    await until(events)
    await run.cancel(None)
    assert not run.goes_on_alone
    run.let_go()
    await events.aclose()
    assert not site.pool.inside


async def test_what_an_earlier_process_has_told_is_not_told_again_when_it_is_sent_again(
    site: Site,
) -> None:
    gate = site.stand()
    run = site.handler.start(make_request())
    events = run.events()
    before = await until(events)
    run.let_go()
    await events.aclose()
    record = RunRecord(RunRef(1, 1), "running", 9, 40, None, {}, origin=before[-1].origin)
    assert await site.handler.take_up([record], {}) == {}
    gate.set()
    after = await carry_out(site.handler.start(make_request()))
    assert calls(before + after) == ["1", "2"]
    assert len(site.agent.jobs) == 1


@pytest.mark.parametrize("held", [RunRef(1, 2), RunRef(1, 1, 2)])
async def test_a_container_that_does_not_have_the_run_is_not_taken_up_and_goes(
    site: Site, held: RunRef
) -> None:
    site.stand()
    run = site.handler.start(make_request())
    events = run.events()
    await until(events)
    run.let_go()
    await events.aclose()
    inner = site.pool.inside["1"]
    inner.runs = {held.key[0]}
    record = RunRecord(held, "running", 9, 40, None, {}, origin=3)
    assert await site.handler.take_up([record], {held.key[0]: inner.endpoint}) == {}
    assert not site.pool.inside


async def left_alone(site: Site, task_id: int, gate: asyncio.Event) -> RunRecord:
    """A run that stands at *gate*, as the next process finds it."""
    site.agent.script = [tool_call(1), gate, tool_call(2), TurnEnd("done")]
    run = site.handler.start(make_request(task_id=task_id, subtask_id=task_id))
    events = run.events()
    before = await until(events)
    run.let_go()
    await events.aclose()
    return RunRecord(RunRef(task_id, task_id), "running", 9, 40, None, {}, origin=before[-1].origin)


@asynccontextmanager
async def behind_a_wire(site: Site, session: str) -> AsyncIterator[tuple[Endpoint, Wire]]:
    """The way to the session's container, which can be shut."""
    endpoint = site.pool.inside[session].endpoint
    async with open_wire(int(endpoint.executor_url.rpartition(":")[2])) as wire:
        yield replace(endpoint, executor_url=f"http://127.0.0.1:{wire.port}"), wire


async def test_a_container_that_is_silent_at_a_restart_is_waited_for_by_its_own_run_only(
    site: Site,
) -> None:
    gate, other_gate = asyncio.Event(), asyncio.Event()
    silent, other = await left_alone(site, 1, gate), await left_alone(site, 2, other_gate)
    async with behind_a_wire(site, "1") as (endpoint, wire):
        wire.freeze()
        living = await site.handler.take_up(
            [silent, other], {"1": endpoint, "2": site.pool.inside["2"].endpoint}
        )
        assert list(living) == [silent.run.key, other.run.key]
        events = living[silent.run.key].events()
        waiting = asyncio.create_task(rest_of(events))
        other_gate.set()
        assert (await carry_out(living[other.run.key]))[-1].type == EventType.COMPLETED
        assert list(site.pool.inside) == ["1"]
        assert not waiting.done()
        gate.set()
        wire.thaw()
        told = await waiting
    assert told[-1].data["result"] == "done"
    assert calls(told) == ["2"]
    assert told[0].origin == (silent.origin or 0) + 1
    assert not site.pool.inside


async def test_a_container_that_stays_silent_after_a_restart_fails_its_run_and_goes(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = await left_alone(site, 1, asyncio.Event())
    async with behind_a_wire(site, "1") as (endpoint, wire):
        await wire.refuse()
        monkeypatch.setattr(site.handler, "_patience_s", 0.1)
        living = await site.handler.take_up([record], {"1": endpoint})
        assert list(site.pool.inside) == ["1"]
        verdict = (await carry_out(living[record.run.key]))[-1]
    assert (verdict.type, verdict.data["error_code"]) == (EventType.FAILED, "container_failed")
    assert "did not answer" in verdict.data["error"]
    assert not site.pool.inside


async def test_a_silent_container_that_turns_out_not_to_have_the_run_fails_it(site: Site) -> None:
    await left_alone(site, 1, asyncio.Event())
    record = RunRecord(RunRef(1, 99), "running", 9, 40, None, {}, origin=3)
    site.pool.inside["1"].runs = {"99"}
    async with behind_a_wire(site, "1") as (endpoint, wire):
        wire.freeze()
        living = await site.handler.take_up([record], {"99": endpoint})
        wire.thaw()
        verdict = (await carry_out(living[record.run.key]))[-1]
    assert "has lost the run" in verdict.data["error"]
    assert not site.pool.inside


async def test_a_run_is_waited_for_whose_container_an_engine_that_is_away_has_paused(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = asyncio.Event()
    record = await left_alone(site, 1, gate)
    gate.set()
    unpause, refused = site.pool.unpause, 2

    async def unpause_later(container_id: str) -> None:
        nonlocal refused
        refused -= 1
        if refused >= 0:
            raise EngineUnavailable("no engine answers")
        await unpause(container_id)

    monkeypatch.setattr(site.pool, "unpause", unpause_later)
    living = await site.handler.take_up([record], {"1": site.pool.inside["1"].endpoint})
    told = await carry_out(living[record.run.key])
    assert told[-1].data["result"] == "done"
    assert site.pool.calls == ["unpause"]


async def test_a_run_whose_container_is_silent_can_be_cancelled(site: Site) -> None:
    record = await left_alone(site, 1, asyncio.Event())
    async with behind_a_wire(site, "1") as (endpoint, wire):
        await wire.refuse()
        living = await site.handler.take_up([record], {"1": endpoint})
        run = living[record.run.key]
        waiting = asyncio.create_task(carry_out(run))
        await run.cancel("enough")
        verdict = (await waiting)[-1]
    assert (verdict.type, verdict.data["reason"]) == (EventType.CANCELLED, "enough")
    assert not site.pool.inside


async def test_a_second_attempt_tells_nothing_of_the_first(site: Site) -> None:
    await carry_out(site.handler.start(make_request(container_mode="persistent")))
    again = await carry_out(
        site.handler.start(make_request(attempt=2, container_mode="persistent"))
    )
    assert again[0].type == EventType.STARTED
    assert [event.terminal for event in again].count(True) == 1


@pytest.mark.parametrize("taken_up", [True, False])
async def test_a_second_attempt_of_which_nothing_was_told_begins_behind_the_first(
    site: Site, taken_up: bool
) -> None:
    await carry_out(site.handler.start(make_request(container_mode="persistent")))
    gate = site.stand()
    run = site.handler.start(make_request(attempt=2, container_mode="persistent"))
    events = run.events()
    await until(events)
    run.let_go()
    await events.aclose()
    gate.set()
    again = RunRecord(RunRef(1, 1, 2), "running", 0, 0, None, {})  # it was killed before any
    if taken_up:
        living = await site.handler.take_up([again], {"1": site.pool.inside["1"].endpoint})
        told = await carry_out(living[again.run.key])
    else:
        told = await carry_out(site.handler.start(make_request(attempt=2)))
    assert told[0].type == EventType.STARTED
    assert [event.terminal for event in told].count(True) == 1
    assert calls(told) == ["1", "2"]


async def test_a_run_that_the_api_has_refused_waits_for_it(site: Site) -> None:
    site.agent.script = [
        TurnEnd(error="slow down", error_code=ErrorCode.RATE_LIMITED, retry_at=time.time() + 600)
    ]
    run = site.handler.start(make_request(timeout_seconds=3600))
    events = run.events()
    await until(events, EventType.WARNING)
    assert run.waits_for == "api"
    await run.cancel(None)
    assert (await rest_of(events))[-1].type == EventType.CANCELLED
    assert run.waits_for is None


async def test_streams_that_end_at_once_are_not_opened_without_a_pause(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    class EndsTwice(ContainerClient):
        streams = 0

        async def follow(self, run_id: str, after: int) -> AsyncGenerator[AgentEvent]:
            self.streams += 1
            if self.streams < 3:
                raise Unreachable("the stream of events ended before the run did")
            async for event in super().follow(run_id, after):
                yield event

    pauses: list[float] = []
    pause, sleep = 0.012345, asyncio.sleep  # nobody else's pause

    async def counted(delay: float) -> None:
        pauses.append(delay)
        await sleep(delay)

    site.agent.script = [TurnEnd("done")]
    async with aiohttp.ClientSession() as http:
        endpoint = await site.pool.get_or_create_container(
            "1", "", session_dir=site.folder / "workspace" / "1", run_id="1"
        )
        token = endpoint.token.get_secret_value()
        client = EndsTwice(http, endpoint.executor_url, token)
        await client.execute({"task_id": 1, "subtask_id": 1, "prompt": "go"})
        wanted = Wanted(RunRef(1, 1), site.folder / "workspace" / "1")
        held = HeldContainer(wanted, site.pool, lambda _: client, endpoint=endpoint)
        monkeypatch.setattr("executor.tasks.containers.run.FOLLOW_AGAIN_S", pause)
        monkeypatch.setattr("executor.tasks.containers.run.asyncio.sleep", counted)
        told = await carry_out(ContainerRun(wanted.run, held, Relayed(site.folder), None))
    assert told[-1].type == EventType.COMPLETED
    assert pauses.count(pause) == 2


@pytest.mark.parametrize(
    "problem",
    [
        Unreachable("gone"),
        Refusal(ErrorCode.DRAINING, "it stops"),
        RunError(ErrorCode.CONTAINER_FAILED, "no such executor"),
    ],
)
async def test_an_answer_that_does_not_get_through_leaves_the_question_open(
    site: Site, problem: WegentError
) -> None:
    class Refusing(ContainerClient):
        async def answer(self, run_id: str, answer: Input) -> AnswerStanding:
            raise problem

    wanted = Wanted(RunRef(1, 1), site.folder)
    nobody = Endpoint("http://127.0.0.1:1", "container", SecretStr("token"))
    async with aiohttp.ClientSession() as http:
        held = HeldContainer(
            wanted,
            site.pool,
            lambda endpoint: Refusing(http, endpoint.executor_url, None),
            endpoint=nobody,
        )
        run = ContainerRun(wanted.run, held, Relayed(site.folder, 3, ["q"]), None)
        raw = {"task_id": 1, "subtask_id": 1, "request_id": "q", "decision": "allow"}
        with pytest.raises(ProtocolError, match="answer again"):
            await run.answer(Input.model_validate(raw))
        assert run.waits_for == "user"


# --- Sessions -------------------------------------------------------------------------------------


async def test_a_conversation_outlives_its_container(site: Site) -> None:
    await carry_out(site.handler.start(make_request()))
    await carry_out(site.handler.start(make_request(subtask_id=2)))
    assert len(site.pool.made) == 2
    assert site.agent.jobs[1].resume == "conversation-1"


async def test_a_persistent_container_serves_the_next_run_until_its_session_is_closed(
    site: Site,
) -> None:
    for subtask in (1, 2):
        await carry_out(
            site.handler.start(make_request(subtask_id=subtask, container_mode="persistent"))
        )
    assert len(site.pool.made) == 1
    await site.handler.close_session(1)
    assert not site.pool.inside


async def test_a_session_that_moves_into_a_container_begins_a_new_conversation_and_says_so(
    site: Site, tmp_path: Path
) -> None:
    async with in_process(site.agent, tmp_path) as outside:
        await carry_out(outside.start(make_request()))
    inside = await carry_out(site.handler.start(make_request(subtask_id=2)))
    assert warnings(inside) == [MOVED]
    assert site.agent.jobs[-1].resume is None
    further = await carry_out(site.handler.start(make_request(subtask_id=3)))
    assert warnings(further) == []
    assert site.agent.jobs[-1].resume is not None


async def test_a_session_that_moves_out_begins_a_new_conversation_and_says_so(
    site: Site, tmp_path: Path
) -> None:
    await carry_out(site.handler.start(make_request()))
    async with in_process(site.agent, tmp_path) as outside:
        events = await carry_out(outside.start(make_request(subtask_id=2)))
        assert warnings(events) == [MOVED_OUT]
        assert site.agent.jobs[-1].resume is None
        further = await carry_out(outside.start(make_request(subtask_id=3)))
        assert warnings(further) == []


# --- Requests -------------------------------------------------------------------------------------


async def test_images_are_the_operators_only(site: Site) -> None:
    for image in (None, "wegent-executor:latest", "other:1"):
        site.handler.check(make_request(executor_image=image))
    with pytest.raises(Refusal, match="executor_image") as refused:
        site.handler.check(make_request(executor_image="evil:1"))
    assert refused.value.error_code == ErrorCode.INVALID_REQUEST


async def test_an_agent_that_the_image_does_not_carry_is_refused_before_anything_is_made(
    tmp_path: Path,
) -> None:
    agent = ScriptedAgent()
    agents = AgentFactory({"claude_code": agent, "agno": agent})
    async with in_containers(agent, tmp_path, agents=agents) as (handler, _):
        with pytest.raises(Refusal, match="does not run in containers") as refused:
            handler.check(make_request(agent_type="Agno"))
    assert refused.value.error_code == ErrorCode.UNSUPPORTED_AGENT
    assert "claude_code" in str(refused.value.hint)


async def test_a_pause_that_the_engine_could_not_do_is_done_when_it_is_asked_for_again(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = site.stand()
    run = site.handler.start(make_request())
    events = run.events()
    await until(events)

    async def no_engine(container_id: str) -> None:
        raise EngineUnavailable("no engine answers")

    with monkeypatch.context() as away:
        away.setattr(site.pool, "pause", no_engine)
        with pytest.raises(EngineUnavailable):
            await run.pause()
    await run.pause()
    assert site.pool.calls == ["pause"]
    await run.resume()
    gate.set()
    assert (await rest_of(events))[-1].type == EventType.COMPLETED


async def test_a_run_that_stands_still_is_not_taken_for_dead(site: Site) -> None:
    gate = site.stand()
    run = site.handler.start(make_request())
    events = run.events()
    await until(events)
    await run.pause()
    await run.pause()
    assert site.pool.calls == ["pause"]
    await run.resume()
    await run.resume()
    assert site.pool.calls == ["pause", "unpause"]
    gate.set()
    assert (await rest_of(events))[-1].type == EventType.COMPLETED


async def test_paths_are_told_as_they_are_called_here(site: Site) -> None:
    def moved(event: AgentEvent) -> Any:
        return (event.data.get("workspace") or event.data).get("path")

    site.agent.script = [TurnEnd("done")]
    events = await carry_out(site.handler.start(make_request()))
    paths = [moved(event) for event in events if moved(event) is not None]
    assert len(paths) == 2
    assert all(str(path).startswith(str(site.folder / "workspace" / "1")) for path in paths)


async def test_the_session_is_remembered_as_one_that_lives_in_a_container(
    site: Site, tmp_path: Path
) -> None:
    await carry_out(site.handler.start(make_request()))
    async with in_process(site.agent, tmp_path) as outside:
        record = await outside.state.session(1)
    assert record == SessionRecord(
        "1", "claude_code", None, tmp_path / "workspace" / "1", None, in_container=True
    )
