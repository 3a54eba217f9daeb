"""How Claude Code's processes end: crashes, interruptions, cancellation, the process table."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from claude_agent_sdk import ClaudeAgentOptions, ClaudeSDKClient, ProcessError

from executor.agents import process_tree
from executor.agents.claude_code.session import ClaudeSession
from executor.agents.claude_code.transport import ProcessTransport
from executor.agents.protocol import AgentSession, TurnEnd
from scripts.scripted_model import ScriptedModel
from shared.errors import RunError
from shared.protocol.events import EventType
from shared.status import ErrorCode
from tests.fakes.agent_jobs import JobMaker, Turn, make_request, nobody, opened, take_turn
from tests.fakes.claude import claude_agent
from tests.fakes.model import scenario, step, text_step, tool_step
from tests.fakes.shells import shell

SLEEPER = tool_step(
    "Bash",
    {"command": "(setsid sleep 613 &) ; exec sleep 613", "timeout": 600_000},
    text="I wait.",
)


async def busy_with_bash(
    session: AgentSession, prompt: str = "HELLO"
) -> tuple[asyncio.Task[Turn], list[psutil.Process]]:
    """A turn whose shell command runs, and every process of the session."""
    turn = asyncio.create_task(take_turn(session, prompt))
    assert isinstance(session, ClaudeSession)
    mark = session._transport._mark
    # Another process's progress: nothing tells of it.
    while not (found := await asyncio.to_thread(sleeping_tree, mark)):  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    return turn, found


def sleeping_tree(mark: str) -> list[psutil.Process]:
    """Every process of a session once both of its commands run; until then nothing."""
    found = process_tree.marked(mark)
    try:
        return found if [process.name() for process in found].count("sleep") == 2 else []
    except psutil.NoSuchProcess:
        return []


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


async def test_an_interrupted_command_ends_and_the_next_turn_works(tmp_path: Path) -> None:
    scenarios = [
        scenario(SLEEPER, text_step("never"), prompt="ONE"),
        scenario(text_step("second"), prompt="TWO"),
    ]
    async with ScriptedModel(scenarios) as model:
        maker = JobMaker(tmp_path, model.url)
        async with opened(maker.job()) as session:
            running, _ = await busy_with_bash(session, "ONE")
            await session.interrupt()
            first = await running
            second = await take_turn(session, "TWO")
    assert first.end.error == "the turn was interrupted"
    assert first.end.reusable
    assert [data["code"] for data in first.data(EventType.LLM_ERROR)] == ["cancelled"]
    assert first.of(EventType.LLM_DONE) == []
    assert second.end.result == "second"


async def test_an_interrupted_answer_ends_and_can_be_interrupted_again(tmp_path: Path) -> None:
    scenarios = [
        scenario(step({"text": "begin"}, {"gate": "never"}, {"text": "end"}), prompt="ONE"),
        scenario(text_step("second"), prompt="TWO"),
    ]
    async with (
        ScriptedModel(scenarios) as model,
        opened(JobMaker(tmp_path, model.url).job()) as session,
    ):
        await session.interrupt()  # nothing runs: nothing happens
        spoken = asyncio.Event()
        running = asyncio.create_task(take_turn(session, "ONE", spoken=spoken))
        await spoken.wait()
        await session.interrupt()
        await session.interrupt()
        first = await running
        second = await take_turn(session, "TWO")
    assert first.end.error_code == ErrorCode.AGENT_ERROR
    assert second.end.result == "second"


async def test_an_interrupt_before_the_first_message_still_ends_the_turn(tmp_path: Path) -> None:
    scenarios = [scenario(step({"text": "begin"}, {"gate": "never"}, {"text": "end"}))]
    async with (
        ScriptedModel(scenarios) as model,
        opened(JobMaker(tmp_path, model.url).job()) as session,
    ):
        items = session.turn(make_request(), nobody)
        first = asyncio.create_task(anext(items))
        await asyncio.sleep(0)  # the prompt is being written
        await session.interrupt()
        collected = [await first, *[item async for item in items]]
    end = collected[-1]
    assert isinstance(end, TurnEnd)
    assert (end.error, end.reusable) == ("the turn was interrupted", True)


async def test_a_killed_cli_is_a_crash_and_takes_its_commands_along(tmp_path: Path) -> None:
    async with ScriptedModel([scenario(SLEEPER, text_step("never"))]) as model:
        maker = JobMaker(tmp_path, model.url)
        session = await claude_agent().open(maker.job())
        running, processes = await busy_with_bash(session)
        assert session.pid is not None
        psutil.Process(session.pid).kill()
        turn = await running
        assert session.pid is None
        await session.close()
    assert turn.end.error_code == ErrorCode.AGENT_CRASHED
    assert "killed by SIGKILL" in (turn.end.error or "")
    assert not turn.end.reusable
    assert turn.data(EventType.LLM_ERROR)[0]["code"] == ErrorCode.AGENT_CRASHED
    assert alive(processes) == []


async def test_closing_leaves_no_process_even_when_cancelled_twice(tmp_path: Path) -> None:
    async with ScriptedModel([scenario(SLEEPER, text_step("never"))]) as model:
        maker = JobMaker(tmp_path, model.url)
        session = await claude_agent().open(maker.job())
        running, processes = await busy_with_bash(session)
        assert len(processes) >= 3
        closing = asyncio.create_task(session.close())
        await asyncio.sleep(0)
        closing.cancel()
        await asyncio.sleep(0)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        assert session.pid is None
        assert alive(processes) == []
        await session.close()
        turn = await running
    assert turn.end.error_code == ErrorCode.AGENT_CRASHED
    assert list((tmp_path / "home" / "private").iterdir()) == []


async def test_a_cancelled_start_leaves_no_process(tmp_path: Path) -> None:
    deaf = tmp_path / "claude"
    deaf.write_text("#!/bin/sh\ntouch started\nexec sleep 613\n", encoding="utf-8")
    deaf.chmod(0o755)
    maker = JobMaker(tmp_path, "http://127.0.0.1:1")
    opening = asyncio.create_task(claude_agent(deaf).open(maker.job()))
    started = maker.cwd / "started"
    while not await asyncio.to_thread(started.exists):  # noqa: ASYNC110 - another process's doing
        await asyncio.sleep(0.02)
    children = psutil.Process().children(recursive=True)
    assert any(child.name() == "sleep" for child in children)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    assert alive(children) == []


class Gated(dict[str, str]):
    """Takes as long to be written down as a test says, once it holds."""

    holds = False

    def __init__(self) -> None:
        super().__init__(Authorization="a secret")
        self.loop = asyncio.get_running_loop()
        self.begun = asyncio.Event()
        self.release = threading.Event()

    def items(self) -> Any:
        if not self.holds:
            return super().items()
        self.loop.call_soon_threadsafe(self.begun.set)
        self.release.wait()
        return super().items()


async def test_a_start_that_is_cancelled_while_it_writes_its_files_leaves_none(
    tmp_path: Path,
) -> None:
    headers = Gated()
    maker = JobMaker(tmp_path, "http://127.0.0.1:1")
    job = maker.job(bot={"mcp_servers": {"s": {"url": "http://h", "headers": headers}}})
    headers.holds = True
    opening = asyncio.create_task(claude_agent(Path("/bin/true")).open(job))
    await headers.begun.wait()
    opening.cancel()
    await asyncio.sleep(0)
    headers.release.set()
    with pytest.raises(asyncio.CancelledError):
        await opening
    await asyncio.to_thread(lambda: None)
    assert list(job.private_dir.iterdir()) == []


@pytest.mark.parametrize("hosts", [None, ()], ids=["no sandbox", "sandbox"])
async def test_a_start_that_cannot_write_its_files_leaves_none(
    tmp_path: Path, hosts: tuple[str, ...] | None
) -> None:
    maker = JobMaker(tmp_path, "http://127.0.0.1:1", hosts=hosts)
    bot = {"mcp_servers": {"s": {"url": "http://h", "headers": {"a": object()}}}}
    job = await asyncio.to_thread(lambda: maker.job(system_prompt="x", bot=bot))
    with pytest.raises(TypeError):
        await claude_agent(Path("/bin/true")).open(job)
    assert list(job.private_dir.iterdir()) == []
    assert job.sandbox is None or list(job.sandbox.temporary.iterdir()) == []


async def test_a_model_that_no_command_line_can_carry_is_a_failed_start(tmp_path: Path) -> None:
    maker = JobMaker(tmp_path, "http://127.0.0.1:1")
    with pytest.raises(RunError) as failed:
        await claude_agent().open(maker.job(model="claude\0"))
    assert failed.value.error_code == ErrorCode.AGENT_ERROR
    assert list((tmp_path / "home" / "private").iterdir()) == []


async def test_a_stubborn_cli_is_ended_at_once_when_there_is_no_time_left(tmp_path: Path) -> None:
    deaf = tmp_path / "claude"
    deaf.write_text(
        "#!/bin/sh\ntrap 'touch told' TERM\nsleep 613 &\ntouch started\nwait\nwait\nsleep 613\n"
    )
    deaf.chmod(0o755)
    job = JobMaker(tmp_path, "http://127.0.0.1:1").job()
    transport = ProcessTransport(ClaudeAgentOptions(cli_path=deaf, cwd=job.cwd), job.env, tmp_path)
    await transport.connect()
    while not await asyncio.to_thread((job.cwd / "started").exists):  # noqa: ASYNC110 - as above
        await asyncio.sleep(0.02)
    children = psutil.Process().children(recursive=True)
    closing = asyncio.create_task(transport.close())
    while not await asyncio.to_thread((job.cwd / "told").exists):  # noqa: ASYNC110 - as above
        await asyncio.sleep(0.02)
    assert alive(children)
    # What asyncio.run does at the end: whoever is left is cancelled, and nobody waits any more.
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    await asyncio.to_thread(psutil.wait_procs, children, timeout=1)
    assert alive(children) == []


@asynccontextmanager
async def started(place: Path, script: str, **options: Any) -> AsyncIterator[ProcessTransport]:
    """A transport whose program is this shell script."""
    cli = place / "claude"
    cli.write_text(f"#!/bin/sh\n{script}\n")
    cli.chmod(0o755)
    job = JobMaker(place, "http://127.0.0.1:1").job()
    given = ClaudeAgentOptions(cli_path=cli, cwd=job.cwd, **options)
    transport = ProcessTransport(given, job.env, place)
    await transport.connect()
    try:
        yield transport
    finally:
        await transport.close()


async def test_a_crash_is_seen_although_another_process_holds_the_output(tmp_path: Path) -> None:
    async with started(tmp_path, "sleep 613 &\necho '{\"n\": 1}'; exit 3") as transport:
        messages = transport.read_messages()
        async with asyncio.timeout(30):
            assert await anext(messages) == {"n": 1}
            with pytest.raises(ProcessError, match="exit status 3"):
                await anext(messages)


async def test_of_an_endless_line_of_errors_the_start_is_kept(tmp_path: Path) -> None:
    flood = "head -c 3000000 /dev/zero | tr '\\0' x >&2; echo >&2; echo last >&2"
    async with started(tmp_path, flood, max_buffer_size=1000) as transport:
        with pytest.raises(ProcessError):
            async with asyncio.timeout(30):
                async for _ in transport.read_messages():
                    pass
        assert transport._stderr_reader is not None
        await transport._stderr_reader
        assert list(transport.stderr_tail) == ["x" * 500, "last"]


async def test_a_number_that_is_anothers_by_now_is_not_touched(tmp_path: Path) -> None:
    with shell("echo 1; exec sleep 600") as (other, _):
        async with started(tmp_path, "exit 0") as transport:
            process = transport._process
            assert process is not None
            assert await process.wait() == 0
            process.pid = other.pid
        assert alive([other])


async def test_a_cli_that_does_not_answer_an_interrupt_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("executor.agents.claude_code.session.INTERRUPT_TIMEOUT_S", 0.1)
    async with ScriptedModel([scenario(SLEEPER, text_step("never"))]) as model:
        maker = JobMaker(tmp_path, model.url)
        async with opened(maker.job()) as session:
            running, _ = await busy_with_bash(session)
            assert session.pid is not None
            psutil.Process(session.pid).suspend()
            await session.interrupt()
            turn = await running
    assert turn.end.error == "the turn was interrupted"
    assert not turn.end.reusable


async def test_a_cli_that_refuses_an_interrupt_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refused(_: ClaudeSDKClient) -> None:
        raise Exception("an error in the place of an answer")

    monkeypatch.setattr(ClaudeSDKClient, "interrupt", refused)
    scenarios = [scenario(step({"text": "begin"}, {"gate": "never"}, {"text": "end"}))]
    async with (
        ScriptedModel(scenarios) as model,
        opened(JobMaker(tmp_path, model.url).job()) as session,
    ):
        spoken = asyncio.Event()
        running = asyncio.create_task(take_turn(session, spoken=spoken))
        await spoken.wait()
        await session.interrupt()
        turn = await running
    assert turn.end.error == "the turn was interrupted"
    assert not turn.end.reusable
