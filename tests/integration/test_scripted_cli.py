"""The stand-in for the CLI does, under the real SDK, what tests and benches rely on."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from executor.agents.claude_code.agent import ClaudeCodeAgent
from executor.agents.protocol import TurnEnd
from shared.protocol.events import EventType
from shared.status import ErrorCode
from tests.fakes.agent_jobs import JobMaker, make_request, nobody, opened, take_turn
from tests.fakes.claude import claude_agent
from tests.fakes.scripted_cli import ANSWER, install, script


@pytest.fixture
def jobs(tmp_path: Path) -> JobMaker:
    return JobMaker(tmp_path, "http://127.0.0.1:9")


@pytest.fixture
def agent(tmp_path: Path) -> ClaudeCodeAgent:
    return claude_agent(install(tmp_path))


async def test_a_turn_is_streamed_as_the_prompt_says(
    jobs: JobMaker, agent: ClaudeCodeAgent
) -> None:
    async with opened(jobs.job(), agent) as session:
        turn = await take_turn(session, script("one two three", pieces=4, pause_s=0.001))
        again = await take_turn(session, "anything else")
    assert [data["content"] for data in turn.data(EventType.LLM_STREAM)] == [
        "one ", "two ", "thre", "e",
    ]  # fmt: skip
    assert turn.data(EventType.LLM_DONE)[0]["content"] == "one two three"
    assert (turn.end.error_code, turn.end.result) == (None, "one two three")
    assert again.end.result == ANSWER
    assert turn.end.reusable and again.end.reusable


async def test_it_continues_the_conversation_it_is_told_to(
    jobs: JobMaker, agent: ClaudeCodeAgent
) -> None:
    wanted = "6f1c2f0e-5d5a-4c53-8a3f-0d5a4f1f2b11"
    async with opened(jobs.job(resume=wanted), agent) as session:
        await take_turn(session)
        assert session.session_id == wanted


async def test_an_interrupt_ends_the_turn_and_the_next_one_works(
    jobs: JobMaker, agent: ClaudeCodeAgent
) -> None:
    async with opened(jobs.job(), agent) as session:
        spoken = asyncio.Event()
        endless = script("word " * 1000, pieces=1000, pause_s=0.01)
        turn = asyncio.create_task(take_turn(session, endless, spoken=spoken))
        async with asyncio.timeout(50):
            await spoken.wait()
            await session.interrupt()
            ended = await turn
        assert ended.end.error_code == ErrorCode.AGENT_ERROR
        assert ended.end.reusable
        assert (await take_turn(session)).end.result == ANSWER


async def test_killed_it_is_a_crash_and_its_child_is_left_to_the_executor(
    jobs: JobMaker,
    agent: ClaudeCodeAgent,
) -> None:
    async with opened(jobs.job(), agent) as session:
        endless = script("word " * 1000, pieces=1000, pause_s=0.01, child_s=7321)
        children: list[psutil.Process] = []
        ends: list[TurnEnd] = []
        async with asyncio.timeout(50):
            async for item in session.turn(make_request(endless), nobody):
                if isinstance(item, TurnEnd):
                    ends.append(item)
                elif item.type == EventType.LLM_STREAM and not children:
                    cli = psutil.Process(session.pid)
                    children = cli.children(recursive=True)
                    cli.send_signal(signal.SIGKILL)
        assert [child.cmdline() for child in children if child.is_running()] == [["sleep", "7321"]]
    assert ends[0].error_code == ErrorCode.AGENT_CRASHED
    assert not children[0].is_running() or children[0].status() == psutil.STATUS_ZOMBIE


async def test_a_command_runs_halfway_and_the_whole_text_is_the_result(
    jobs: JobMaker, agent: ClaudeCodeAgent, tmp_path: Path
) -> None:
    diary = tmp_path / "diary"
    async with opened(jobs.job(), agent) as session:
        prompt = script("one two three four", pieces=2, tool_s=0.01, diary=diary)
        turn = await take_turn(session, prompt)
    assert turn.end.result == "one two three four"
    assert [call["tool_name"] for call in turn.data(EventType.TOOL_CALL)] == ["Bash"]
    assert [result["result"] for result in turn.data(EventType.TOOL_RESULT)] == ["done"]
    assert turn.data(EventType.LLM_DONE)[0]["content"] == "one two three \n\nfour"
    assert [note["what"] for note in notes(diary)] == ["started", "child"]


async def test_a_deaf_and_stubborn_one_is_ended_all_the_same(
    jobs: JobMaker, agent: ClaudeCodeAgent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("executor.agents.claude_code.transport.TERM_GRACE_S", 0.2)
    diary = tmp_path / "diary"
    async with opened(jobs.job(), agent) as session:
        prompt = script("a b", tool_s=7322, deaf=True, stubborn=True, child_s=7322, diary=diary)
        turn = asyncio.create_task(take_turn(session, prompt))
        async with asyncio.timeout(50):
            while len(notes(diary)) < 3:  # noqa: ASYNC110 - written by another process
                await asyncio.sleep(0.02)
            await session.interrupt()
            while len(notes(diary)) < 4:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        assert not turn.done()
        turn.cancel()
        await asyncio.wait({turn})
    told = notes(diary)
    assert [note["what"] for note in told] == ["started", "child", "child", "interrupt"]
    left = [psutil.Process(pid) for note in told if psutil.pid_exists(pid := note["pid"])]
    assert [process for process in left if process.status() != psutil.STATUS_ZOMBIE] == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has names without a file")
async def test_two_turns_in_one_folder_are_told(jobs: JobMaker, agent: ClaudeCodeAgent) -> None:
    job = jobs.job()
    async with opened(job, agent) as first, opened(job, agent) as second:
        spoken = asyncio.Event()
        endless = script("word " * 1000, pieces=1000, pause_s=0.01)
        turn = asyncio.create_task(take_turn(first, endless, spoken=spoken))
        async with asyncio.timeout(50):
            await spoken.wait()
            refused = await take_turn(second)
            await first.interrupt()
            await turn
            assert refused.end.error is not None and "two agents" in refused.end.error
            assert (await take_turn(second)).end.result == ANSWER


def notes(diary: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in diary.read_text().splitlines()] if diary.exists() else []
