"""Runs in containers: the real engine, the real image, the real CLI, a scripted model."""

from __future__ import annotations

import asyncio
import functools
import json
import os
import re
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from executor.delivery.run_rows import RunRecord
from executor.tasks.isolation import IsolationRules
from executor.tasks.questions import UserInput
from executor.tasks.run_handler import Run
from executor.tasks.sandbox_probe import probe_sandbox
from executor.tasks.supervisor import Supervisor
from scripts.scripted_model import ScriptedModel
from scripts.scripted_record import fingerprint
from scripts.scripted_scenario import Scenario
from shared.protocol.events import AgentEvent, EventType, RunRef
from shared.protocol.execution import Isolation
from shared.protocol.local import Input
from shared.status import ErrorCode
from tests.fakes.agent import in_process
from tests.fakes.agent_jobs import make_request
from tests.fakes.claude import claude_agent
from tests.fakes.container_runs import KEY, Site
from tests.fakes.containers import until
from tests.fakes.docker_engine import DockerEngine, OwnEngine
from tests.fakes.model import reaching, scenario, step, text_step, tool_step
from tests.fakes.supervised import Reports

LIMIT_S = 120.0


@pytest.fixture
async def site(
    docker_engine: DockerEngine, executor_image: str, tmp_path: Path
) -> AsyncIterator[Site]:
    await asyncio.to_thread((tmp_path / "home").mkdir)
    site = Site(docker_engine, executor_image, tmp_path)
    yield site
    await site.house.remove_all()


async def rest_of(events: AsyncGenerator[AgentEvent]) -> list[AgentEvent]:
    async with asyncio.timeout(LIMIT_S):
        return [event async for event in events]


async def carry_out(run: Run) -> list[AgentEvent]:
    return await rest_of(run.events())


async def read_to(events: AsyncGenerator[AgentEvent], kind: str) -> AgentEvent:
    """The next event of this kind."""
    async with asyncio.timeout(LIMIT_S):
        while (event := await anext(events)).type != kind:
            pass
    return event


def bash(command: str) -> dict[str, Any]:
    return tool_step("Bash", {"command": command, "description": "try"})


def held(*steps: dict[str, Any]) -> Scenario:
    """The answer stands in the middle of a message."""
    return scenario(*steps, step({"text": "so "}, {"gate": "here"}, {"text": "far"}), prompt="Do")


async def stands(model: ScriptedModel, events: AsyncGenerator[AgentEvent]) -> None:
    """Wait until the model's answer does."""
    await read_to(events, EventType.LLM_STREAM)
    async with asyncio.timeout(LIMIT_S):
        await model.gate("here").reached.wait()


async def test_a_run_in_a_container_works_in_the_sessions_folder_and_tells_its_path_here(
    site: Site,
) -> None:
    write = tool_step("Write", {"file_path": "/workspace/made.txt", "content": "hello"})
    async with (
        site.model(scenario(write, text_step("written"), prompt="Write")) as model,
        site.process() as process,
    ):
        events = await carry_out(process.handler.start(make_request("Write it")))
    verdict = events[-1]
    assert verdict.type == EventType.COMPLETED, verdict.data
    assert verdict.data["result"] == "written"
    folder = site.house.session_dir("1")
    assert verdict.data["workspace"]["path"] == str(folder)
    assert [file["path"] for file in verdict.data["workspace"]["files"]] == ["made.txt"]
    assert await asyncio.to_thread((folder / "made.txt").read_text) == "hello"
    assert [event.origin for event in events] == list(range(1, len(events) + 1))
    assert {request.key_fingerprint for request in model.requests} == {fingerprint(KEY)}
    await until(site.nothing_is_left)


def told(events: list[AgentEvent], session_dir: Path) -> list[tuple[str, Any]]:
    """What a run has told, but for when, under which ids, and where."""
    ids: dict[str, str] = {}
    shown: list[tuple[str, Any]] = []
    for event in events:
        data = json.dumps(dict(event.data), sort_keys=True)
        data = data.replace(str(session_dir), "/workspace")
        # The paths are part of what the model is asked, and so of what it costs.
        data = re.sub(r'("[^"]*(?:_ms|_usd|tokens|USD|Tokens)": )[0-9.]+', r"\g<1>0", data)
        for name in re.findall(r"[0-9a-f]{32}|[0-9a-f]{8}-[0-9a-f-]{27}|(?:msg|toolu)_\w+", data):
            data = data.replace(name, ids.setdefault(name, f"id-{len(ids)}"))
        fields = json.loads(data)
        if shown and shown[-1][0] == event.type == EventType.LLM_STREAM:
            shown[-1][1]["content"] += fields["content"]  # the same text in other pieces
        else:
            shown.append((str(event.type), fields))
    return shown


async def test_the_same_task_tells_the_same_here_in_a_sandbox_and_in_a_container(
    site: Site, tmp_path: Path
) -> None:
    task = scenario(
        tool_step("Write", {"file_path": "{cwd}/a.txt", "content": "a\n"}, text="I begin."),
        bash("cat a.txt && echo b > b.txt"),
        tool_step("Read", {"file_path": "{cwd}/missing.txt"}),
        text_step("all done"),
        prompt="Do",
    )
    async with site.model(task) as model, site.process() as process:
        request = make_request("Do it", bot={"agent_config": reaching(model.url)})
        contained = await carry_out(process.handler.start(request))
        outcomes = [told(contained, site.house.session_dir("1"))]
        for isolation in (Isolation.NONE, Isolation.SANDBOX):
            home = tmp_path / str(isolation)
            await asyncio.to_thread(home.mkdir)
            async with in_process(claude_agent(), home, environ=dict(os.environ)) as handler:
                problem = await asyncio.to_thread(probe_sandbox, os.environ)
                assert problem is None
                handler.rules = replace(handler.rules, isolation=IsolationRules(isolation, None))
                events = await carry_out(handler.start(request))
            outcomes.append(told(events, home / "workspace" / "1"))
    inside, here, sandboxed = outcomes
    assert inside == here
    assert inside == sandboxed


async def test_a_conversation_goes_on_in_the_next_container(site: Site) -> None:
    scenarios = [
        scenario(text_step("as I said"), prompt="again", history="the word is tea"),
        scenario(text_step("noted"), prompt="the word is tea"),
    ]
    async with site.model(*scenarios), site.process() as process:
        first = await carry_out(process.handler.start(make_request("the word is tea")))
        second = await carry_out(process.handler.start(make_request("again", subtask_id=2)))
    assert (first[-1].data["result"], second[-1].data["result"]) == ("noted", "as I said")
    assert second[0].data["resumed"] is True


async def test_a_cancelled_run_is_over_inside_and_its_container_goes(site: Site) -> None:
    async with site.model(held()) as model, site.process() as process:
        run = process.handler.start(make_request("Do it"))
        events = run.events()
        await stands(model, events)
        await run.cancel("enough")
        verdict = (await rest_of(events))[-1]
        await until(site.nothing_is_left)
    assert (verdict.type, verdict.data["reason"]) == (EventType.CANCELLED, "enough")
    assert verdict.data["workspace"]["path"] == str(site.house.session_dir("1"))


async def test_a_question_comes_out_and_its_answer_goes_in(site: Site) -> None:
    question = {
        "question": "Which?",
        "header": "Pick",
        "multiSelect": False,
        "options": [{"label": "one", "description": "1"}, {"label": "two", "description": "2"}],
    }
    asks = tool_step("AskUserQuestion", {"questions": [question]})
    site.user_input = UserInput(timeout_s=60, run_timeout_s=120)
    async with (
        site.model(scenario(asks, text_step("done"), prompt="Ask")) as model,
        site.process() as process,
    ):
        run = process.handler.start(make_request("Ask me"))
        events = run.events()
        asked = await read_to(events, EventType.INPUT_REQUIRED)
        assert run.waits_for == "user"
        raw = {"task_id": 1, "subtask_id": 1, "request_id": asked.data["request_id"]}
        reply = Input.model_validate({**raw, "decision": "answer", "answers": {"1": "two"}})
        assert await run.answer(reply) == "accepted"
        assert (await rest_of(events))[-1].type == EventType.COMPLETED
        assert '"two"' in model.requests[-1].last_tool_result


async def test_a_paused_run_stands_still_with_all_that_is_in_its_container(site: Site) -> None:
    async with site.model(held()) as model, site.process() as process:
        run = process.handler.start(make_request("Do it"))
        events = run.events()
        await stands(model, events)
        (container,) = await site.house.containers()
        await run.pause()
        shown = await site.house.docker("inspect", "--format", "{{.State.Status}}", container)
        model.gate("here").release()
        await run.resume()
        verdict = (await rest_of(events))[-1]
    assert shown == "paused"
    assert verdict.data["result"] == "so far"


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        ({"timeout_seconds": 4}, ErrorCode.TIMED_OUT),
        ({"stall_timeout_seconds": 0.5}, ErrorCode.STALLED),
    ],
)
async def test_a_run_is_bounded_inside(site: Site, limits: dict[str, Any], code: ErrorCode) -> None:
    scenarios = [
        scenario(step({"gate": "never"}), prompt=["interrupted", "Do"], name="again"),
        scenario(step({"text": "so far"}, {"gate": "here"}), prompt="Do"),
    ]
    async with site.model(*scenarios), site.process() as process:
        verdict = (await carry_out(process.handler.start(make_request("Do it", **limits))))[-1]
    assert (verdict.type, verdict.data["error_code"]) == (EventType.FAILED, code)


async def test_a_container_that_is_killed_fails_the_run_with_its_exit_code(site: Site) -> None:
    async with site.model(held()) as model, site.process() as process:
        events = process.handler.start(make_request("Do it")).events()
        await stands(model, events)
        await site.house.docker("kill", *await site.house.containers())
        verdict = (await rest_of(events))[-1]
        await until(site.nothing_is_left)
    assert verdict.data["error_code"] == ErrorCode.CONTAINER_FAILED
    assert "exit code 137" in verdict.data["error"]
    assert "executor listening on" in verdict.data["details"]


async def test_an_agent_for_which_the_memory_does_not_suffice_says_so(site: Site) -> None:
    site.house.settings = replace(
        site.house.settings, limits=replace(site.house.settings.limits, memory=120 * 2**20)
    )
    async with site.model(scenario(text_step("done"), prompt="Do")), site.process() as process:
        verdict = (await carry_out(process.handler.start(make_request("Do it"))))[-1]
    assert verdict.data["error_code"] == ErrorCode.OUT_OF_MEMORY, verdict.data


async def test_a_run_that_stood_still_when_the_executor_died_goes_on_with_the_next_one(
    site: Site,
) -> None:
    async with site.model(held()) as model:
        async with site.process() as process:
            run = process.handler.start(make_request("Do it"))
            events = run.events()
            await stands(model, events)
            await run.pause()
            run.let_go()
            await events.aclose()
        record = RunRecord(RunRef(1, 1), "running", 9, 40, None, {}, origin=4)
        model.gate("here").release()
        async with site.process((record,)) as process:
            told_later = await carry_out(process.living[record.run.key])
            await until(site.nothing_is_left)
    assert told_later[0].origin == 5
    assert told_later[-1].data["result"] == "so far"


async def test_a_run_whose_time_passes_while_no_executor_runs_is_timed_out_by_the_next_one(
    site: Site,
) -> None:
    request = make_request("Do it", timeout_seconds=3600)  # inside, it has most of that
    make = functools.partial(Supervisor, max_concurrent=1, queue_limit=1, timeout_s=60)
    reports = Reports()
    async with site.model(held()) as model:
        async with site.process() as process:
            supervisor = make(process.handler, reports, process.state)
            supervisor.submit(request)
            async with asyncio.timeout(LIMIT_S):
                await model.gate("here").reached.wait()
            await supervisor.close()
            (record,) = await process.state.runs()
        assert reports.verdicts() == {"1": []}
        assert (record.limit_s, record.seen_at is None) == (3600, False)
        long_ago = replace(record, seen_at=(record.seen_at or 0) - 3600)
        async with site.process((long_ago,)) as process:
            supervisor = make(process.handler, reports, process.state, catch_up_s=1.0)
            supervisor.restore([long_ago])
            supervisor.follow(process.living)
            _, verdict = await reports.next_verdict(within_s=LIMIT_S)
            await until(site.nothing_is_left)
            await supervisor.close()
    assert verdict.data["error_code"] == ErrorCode.TIMED_OUT
    assert verdict.data["error"] == "the run did not finish within 3600 s"


async def test_an_image_that_nobody_has_fails_the_run_and_names_it(site: Site) -> None:
    site.house.settings = replace(site.house.settings, image="nobody/has-this:1")
    async with site.process() as process:
        verdict = (await carry_out(process.handler.start(make_request("Do it"))))[-1]
    assert verdict.data["error_code"] == ErrorCode.CONTAINER_FAILED
    assert "nobody/has-this:1" in verdict.data["error"]


async def test_when_the_engine_restarts_the_run_goes_on_in_another_container(
    site: Site,
) -> None:
    engine = site.engine
    if not isinstance(engine, OwnEngine):
        pytest.skip("NOTHING WAS TESTED: the engine belongs to somebody else")
    scenarios = [
        scenario(text_step("and the rest"), prompt=["was cut off", "Do"], name="continued"),
        held(bash("echo half > half.txt")),
    ]
    async with site.model(*scenarios) as model, site.process() as process:
        events = process.handler.start(make_request("Do it")).events()
        await stands(model, events)
        await engine.restart()
        after = await rest_of(events)
        await until(site.nothing_is_left)
    assert after[-1].data.get("result") == "and the rest", after[-1].data
    warned = [event.data["message"] for event in after if event.type == EventType.WARNING]
    assert "engine went away" in warned[0]
    (interrupted,) = [event for event in after if event.type == EventType.LLM_ERROR]
    assert interrupted.data["code"] == "interrupted"
    half = site.house.session_dir("1") / "half.txt"
    assert await asyncio.to_thread(half.read_text) == "half\n"
