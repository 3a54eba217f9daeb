"""The MCP tools of agno's agents: real servers, the policy, and the user."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from executor.agents import process_tree
from executor.agents.orphans import AgentRecord
from executor.agents.protocol import ToolDecision
from shared.protocol.answers import QuestionKind
from shared.protocol.events import EventType, Source
from tests.fakes.agent_jobs import take_turn
from tests.fakes.agno import Playing, fake_server, playing_in, says, texts
from tests.fakes.mcp_http import mcp_http_server
from tests.fakes.model import scenario, text_step, tool_step


@pytest.fixture
def playing(tmp_path: Path) -> Playing:
    return playing_in(tmp_path)


async def test_tools_of_servers_are_used_and_told(playing: Playing, tmp_path: Path) -> None:
    call = tool_step("mcp__fake__run", {"command": "echo made > file; pwd"}, text="I look.")
    async with (
        playing(scenario(call, text_step("It is there."))) as agno,
        agno.opened(agno.bot("solo", mcp_servers=fake_server())) as session,
    ):
        turn = await take_turn(session, "Hi")

    assert turn.end.result == "It is there."
    [(result, is_error)] = turn.results
    assert f"{tmp_path}/home/workspace/1/repo\n" in result
    assert not is_error
    [used] = turn.of(EventType.TOOL_CALL)
    assert used.data["tool_name"] == "mcp__fake__run"
    assert used.source == Source("id-solo", "agent", "solo")
    assert texts(turn) == {"solo": "I look.\n\nIt is there."}


async def test_a_tool_that_is_not_allowed_is_not_offered_and_not_used(playing: Playing) -> None:
    call = tool_step("mcp__fake__run", {"command": "touch made"})
    async with playing(scenario(call, text_step("Well."))) as agno:
        bot = agno.bot("solo", mcp_servers=fake_server())
        lists: list[dict[str, Any]] = [
            {"allowed_tools": ["Read"]},
            {"disallowed_tools": ["mcp__fake"]},
        ]
        for given in lists:
            async with agno.opened(bot, **given) as session:
                turn = await take_turn(session, "Hi", **given)
            assert turn.end.result == "Well."
            async with agno.opened(bot | given) as session:
                turn = await take_turn(session, "Hi")
            assert turn.end.result == "Well."
        assert not any(request.tools for request in agno.model.requests)


@pytest.mark.parametrize("rule", ["mcp__my__files", "mcp__my__files__*", "mcp__my__files__r*"])
async def test_the_tools_of_a_server_that_is_allowed_as_a_whole_may_be_used(
    playing: Playing, rule: str
) -> None:
    call = tool_step("mcp__my__files__run", {"command": "echo used"})
    async with playing(scenario(call, text_step("Well."))) as agno:
        bot = agno.bot("solo", mcp_servers={"my__files": fake_server()["fake"]})
        async with agno.opened(bot, allowed_tools=[rule]) as session:
            turn = await take_turn(session, "Hi")

    [(result, is_error)] = turn.results
    assert "used" in result
    assert not is_error


@pytest.mark.parametrize("allowed", [True, False])
async def test_in_an_attended_run_its_user_decides_about_tools(
    playing: Playing, allowed: bool
) -> None:
    asked: list[object] = []

    async def ask(
        kind: QuestionKind, tool: str, arguments: dict[str, Any], source: Source | None, /
    ) -> ToolDecision:
        asked.append((kind, tool, arguments, source))
        if not allowed:
            return ToolDecision(allowed=False, message="Rather not.")
        return ToolDecision(allowed=True, updated_input={"command": "echo changed"})

    call = tool_step("mcp__fake__run", {"command": "echo first"})
    async with playing(scenario(call, text_step("Well."))) as agno:
        agno.mode = "default"
        async with agno.opened(agno.bot("solo", mcp_servers=fake_server())) as session:
            turn = await take_turn(session, "Hi", ask=ask)

    source = Source("id-solo", "agent", "solo")
    assert asked == [("permission", "mcp__fake__run", {"command": "echo first"}, source)]
    [(result, is_error)] = turn.results
    assert ("changed" in result, "Rather not." in result) == (allowed, not allowed)
    assert is_error is not allowed


async def test_without_a_user_an_attended_run_denies(playing: Playing) -> None:
    call = tool_step("mcp__fake__run", {"command": "echo first"})
    async with playing(scenario(call, text_step("Well."))) as agno:
        agno.mode = "default"
        async with agno.opened(agno.bot("solo", mcp_servers=fake_server())) as session:
            turn = await take_turn(session, "Hi")

    [(result, is_error)] = turn.results
    assert "approval" in result
    assert is_error


async def test_nothing_is_left_of_a_session_whose_opening_is_cancelled_twice(
    playing: Playing, tmp_path: Path
) -> None:
    # conftest.py looks for what lives on.
    started = tmp_path / "started"
    os.mkfifo(started)
    silent = f"open({str(started)!r}, 'w').close(); import sys; sys.stdin.read()"
    servers = {"silent": {"command": sys.executable, "args": ["-c", silent]}}
    async with playing() as agno:
        job = await asyncio.to_thread(agno.job, agno.bot("solo", mcp_servers=servers))
        opening = asyncio.create_task(agno.agent().open(job))
        with await asyncio.to_thread(started.open):  # opened by both: it runs
            pass
        opening.cancel()
        while not opening.done():
            await asyncio.sleep(0)
            opening.cancel()

    assert opening.cancelled()
    assert not list((agno.root / "home" / "private").iterdir())


async def test_a_server_that_cannot_be_started_is_told_and_missing(playing: Playing) -> None:
    servers = {"gone": {"command": "no-such-program"}, **fake_server()}
    async with playing(says("solo", "Hello")) as agno:
        async with agno.opened(agno.bot("solo", mcp_servers=servers)) as session:
            turn = await take_turn(session, "Hi")
        assert agno.model.requests[0].tools == ("mcp__fake__run",)

    [warning] = turn.data(EventType.WARNING)
    assert warning["message"] == "the MCP server gone cannot be used: there is no such program"
    assert turn.end.result == "Hello"


async def test_nothing_of_a_server_is_left_when_its_session_is_closed(playing: Playing) -> None:
    daemon = "setsid sleep 300 >/dev/null 2>&1 </dev/null & echo $!"
    call = tool_step("mcp__fake__run", {"command": daemon})
    async with (
        playing(scenario(call, text_step("Well."))) as agno,
        agno.opened(agno.bot("solo", mcp_servers=fake_server())) as session,
    ):
        turn = await take_turn(session, "Hi")
        daemon_id = int(turn.results[0][0].split()[0])
        [folder] = (agno.root / "home" / "private").iterdir()
        record = await asyncio.to_thread(AgentRecord.read, folder)
        assert record is not None
        marked = await asyncio.to_thread(process_tree.marked, record.mark)
        assert daemon_id in {process.pid for process in marked}
        assert await asyncio.to_thread(session.tools_cpu_s) > 0

    assert not await asyncio.to_thread(process_tree.marked, record.mark)
    assert not list((agno.root / "home" / "private").iterdir())


async def test_servers_get_no_keys(playing: Playing) -> None:
    call = tool_step("mcp__fake__run", {"command": "env; tr '\\0' ' ' </proc/$PPID/environ"})
    async with playing(scenario(call, text_step("Well."))) as agno:
        servers = fake_server(env={"MINE": "yes"})
        async with agno.opened(agno.bot("solo", mcp_servers=servers)) as session:
            turn = await take_turn(session, "Hi")

    [(result, _)] = turn.results
    assert "MINE=yes" in result
    assert "sk-key" not in result
    assert "ANTHROPIC" not in result


async def test_a_session_is_not_used_again_whose_turn_has_left_a_tool_at_work(
    playing: Playing, tmp_path: Path
) -> None:
    started, may_end = tmp_path / "started", tmp_path / "may_end"
    for pipe in (started, may_end):
        os.mkfifo(pipe)
    call = tool_step("mcp__fake__run", {"command": f"echo > {started}; cat {may_end}"})
    async with (
        playing(scenario(call)) as agno,
        agno.opened(agno.bot("solo", mcp_servers=fake_server())) as session,
    ):
        taking = asyncio.create_task(take_turn(session, "Hi"))
        await asyncio.to_thread(started.read_bytes)
        assert session.alive
        await session.interrupt()
        await taking
        while session.alive:  # noqa: ASYNC110 - the server is told of it first
            await asyncio.sleep(0)
        await asyncio.to_thread(may_end.write_bytes, b"")


async def test_a_session_whose_server_has_died_is_not_used_again(playing: Playing) -> None:
    call = tool_step("mcp__fake__run", {"command": "kill -9 $PPID"})
    async with (
        playing(scenario(call, text_step("Well."))) as agno,
        agno.opened(agno.bot("solo", mcp_servers=fake_server())) as session,
    ):
        assert session.alive
        turn = await take_turn(session, "Hi")
        assert not session.alive

    [(_, is_error)] = turn.results
    assert is_error
    assert turn.end.result == "Well."


async def test_a_session_whose_server_has_been_restarted_is_not_used_again(
    playing: Playing,
) -> None:
    call = tool_step("mcp__far__run", {"command": "true"})
    async with mcp_http_server() as server, playing(scenario(call, text_step("Well."))) as agno:
        far = {"type": "http", "url": server.url}
        async with agno.opened(agno.bot("solo", mcp_servers={"far": far})) as session:
            server.restarted = True
            turn = await take_turn(session, "Hi")
            assert not session.alive

    [(_, is_error)] = turn.results
    assert is_error


@pytest.mark.parametrize("kind", ["http", "sse"])
async def test_servers_on_the_network_get_their_headers(playing: Playing, kind: str) -> None:
    call = tool_step("mcp__far__run", {"command": "echo from afar"})
    async with mcp_http_server() as server, playing(scenario(call, text_step("Well."))) as agno:
        url = server.sse_url if kind == "sse" else server.url
        far = {"type": kind, "url": url, "headers": {"X-Token": "${TOKEN}"}}
        bot = agno.bot("solo", mcp_servers={"far": far})
        async with agno.opened(bot, variables={"TOKEN": "of the request"}) as session:
            turn = await take_turn(session, "Hi")

    assert "from afar" in turn.results[0][0]
    assert {headers["X-Token"] for headers in server.headers} == {"of the request"}
    assert not turn.of(EventType.WARNING)
