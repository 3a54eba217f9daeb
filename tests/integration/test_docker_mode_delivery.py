"""Docker mode as a program: who reads what its runs tell misses nothing, also when it is killed."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.fakes.docker_mode import DockerProcess, docker_process
from tests.fakes.processes import family, gone
from tests.fakes.receiver import Answer, Receiver, Request, open_receiver
from tests.fakes.scripted_cli import QUESTION, script

TOKEN = "token-of-this-run"


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with open_receiver() as receiver:
        yield receiver


def callbacks_to(receiver: Receiver) -> dict[str, Any]:
    return {
        "callback_url": f"{receiver.url}/callback",
        "callback_token": TOKEN,
        "callback_base_url": receiver.url,
    }


async def kill(executor: DockerProcess) -> None:
    children = family(executor.program.pid)
    executor.program.signal(signal.SIGKILL)
    await executor.program.ended()
    for child in children:  # an agent ends with its executor, but not at once
        child.kill()
    assert await gone(children)


async def test_a_run_is_told_by_callbacks_from_its_start_to_its_end(
    tmp_path: Path, receiver: Receiver
) -> None:
    async with docker_process(tmp_path, CLAUDE_MAX_WARM_SESSIONS="0") as executor:
        await executor.client.execute(prompt=script("Done.", tool_s=0), **callbacks_to(receiver))
        await receiver.wait_for(
            lambda: bool(receiver.callbacks) and receiver.callbacks[-1][1] == "task_completed",
            timeout_s=30,
        )
        run = await executor.client.run("1")
        log = executor.log
    told = [request.body for request in receiver.requests]
    names = [body["event"] for body in told]
    assert names[0] == "task_started"
    assert [name for name in names if name in ("tool_call", "agent_response")] == [
        "tool_call",
        "agent_response",
    ]
    tool = next(body["data"] for body in told if body["event"] == "tool_call")
    assert set(tool) == {"turn", "tool_name", "tool_input", "tool_output"}
    assert (told[-1]["data"]["result"], told[-1]["session_id"], told[-1]["run_id"]) == (
        "Done.",
        "1",
        "1",
    )
    assert told[-1]["sequence"] == run["sequence"]
    numbers = [body["sequence"] for body in told]
    assert numbers == sorted(set(numbers))
    assert TOKEN not in log


async def test_the_backend_s_user_answers_what_the_agent_asks(
    tmp_path: Path, receiver: Receiver
) -> None:
    def backend(request: Request) -> Answer:
        if request.path.startswith("/api/v1/user-input-requests"):
            status = "accepted" if request.method == "POST" else "answered"
            return web.json_response({"id": 4, "status": status, "answers": {QUESTION: "blue"}})
        return 200

    receiver.answer = backend
    async with docker_process(tmp_path, CLAUDE_MAX_WARM_SESSIONS="0") as executor:
        prompt = script("It is so.", asks=True)
        await executor.client.execute(prompt=prompt, **callbacks_to(receiver))
        run = await executor.client.finished("1")
        events = await executor.client.events("1")
    assert run["state"] == "completed"
    [resolved] = [event for event in events if event.name == "agent.input_resolved"]
    assert resolved.data["data"]["outcome"] == "answered"
    looked = [request.path for request in receiver.requests if request.method == "GET"]
    assert set(looked) == {"/api/v1/user-input-requests/4"}


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
async def test_a_verdict_is_told_after_the_executor_was_killed_on_the_way(
    tmp_path: Path, receiver: Receiver
) -> None:
    receiver.answer = lambda request: (
        receiver.hang(request) if request.body["event"] == "task_completed" else 200
    )
    async with docker_process(tmp_path, CLAUDE_MAX_WARM_SESSIONS="0") as executor:
        await executor.client.execute(prompt=script("Done."), **callbacks_to(receiver))
        before = await executor.client.events("1")
        await receiver.wait_for(lambda: receiver.callbacks[-1][1] == "task_completed", 30)
        await kill(executor)
    first = receiver.requests[-1]
    receiver.answer = lambda _: 200
    async with docker_process(tmp_path) as executor:
        await receiver.wait_for(lambda: receiver.requests[-1] is not first, 30)
        assert await executor.client.events("1") == before
        assert await executor.client.events("1", after=3) == before[3:]
    assert receiver.requests[-1] == first
    assert [event for _, event in receiver.callbacks].count("task_started") == 1


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
async def test_a_run_that_was_cut_off_goes_on_in_the_same_log(
    tmp_path: Path, receiver: Receiver
) -> None:
    async with docker_process(tmp_path, CLAUDE_MAX_WARM_SESSIONS="0") as executor:
        task = {"prompt": script("Hello.", tool_s=600), **callbacks_to(receiver)}
        await executor.client.execute(**task)
        before = await executor.client.events("1", until="llm.tool_call")
        await receiver.wait_for(lambda: bool(receiver.callbacks), 30)
        await kill(executor)
    async with docker_process(tmp_path, CLAUDE_MAX_WARM_SESSIONS="0") as executor:
        client = executor.client
        assert (await client.run("1"))["state"] == "interrupted"
        following = asyncio.create_task(client.events("1", after=int(before[-1].id or 0)))
        accepted = await client.execute(**(task | {"prompt": script("Hello again.")}))
        assert accepted["resumed"] is True
        async with asyncio.timeout(30):
            rest = await following
        whole = await client.events("1")
        await receiver.wait_for(lambda: receiver.callbacks[-1][1] == "task_completed", 30)
    assert whole == before + rest
    assert [event.id for event in whole[:-1]] == [str(n) for n in range(1, len(whole))]
    numbers = [number for number, _ in receiver.callbacks]
    assert numbers == sorted(numbers)
    assert numbers[-1] == len(whole) - 1


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
async def test_a_run_has_after_a_kill_what_was_left_of_its_time(tmp_path: Path) -> None:
    task = {"prompt": script("never said", asks=True), "timeout_seconds": 600}
    async with docker_process(tmp_path) as executor:
        await executor.client.execute(**task)
        await executor.client.events("1", until="agent.input_required")
        await kill(executor)
    with closing(sqlite3.connect(executor.home / "docker.db", isolation_level=None)) as state:
        ((used_s, limit_s),) = state.execute("SELECT used_s, limit_s FROM runs")
        assert 0 < used_s < limit_s == 600
        state.execute("UPDATE runs SET used_s = limit_s")  # as though it had been long
    async with docker_process(tmp_path) as executor:
        assert (await executor.client.execute(**task))["resumed"]
        run = await executor.client.finished("1")
    assert (run["state"], run["error_code"]) == ("failed", "timed_out")
