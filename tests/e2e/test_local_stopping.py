"""Stopping: a run by its user, the executor by signals; and what must be gone afterwards."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest

from executor.tasks.sandbox_probe import probe_sandbox
from scripts.scripted_model import ScriptedModel
from scripts.scripted_scenario import Scenario
from shared.protocol.local import LocalEvent
from tests.e2e.conftest import System
from tests.fakes.backend import TOKEN, open_backend
from tests.fakes.model import reaching, scenario, step, text_step
from tests.fakes.processes import executor_process, family, gone, system
from tests.fakes.runs import RUN_SECONDS

pytestmark = pytest.mark.asyncio(loop_scope="module")

NAP = f"86413.1{os.getpid()}"
"""Seconds that the commands of this file sleep: nobody else's do."""


def work() -> Scenario:
    """Says something, stands at the gate ``work``, and is done."""
    return scenario(step({"text": "I begin. "}, {"gate": "work"}, {"text": "Done."}), prompt="work")


def commands() -> list[psutil.Process]:
    """The commands of this file's agents, wherever they belong by now."""
    return [process for process in psutil.process_iter(["cmdline"]) if _naps(process)]


def _naps(process: psutil.Process) -> bool:
    return (process.info["cmdline"] or []) == ["sleep", NAP]


async def working(count: int) -> list[psutil.Process]:
    """The commands, once there are this many; a start tells nobody."""
    async with asyncio.timeout(RUN_SECONDS):
        while len(found := await asyncio.to_thread(commands)) < count:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    return found


@pytest.mark.parametrize("isolation", ["none", "sandbox"])
async def test_a_cancelled_turn_takes_its_processes_along_and_the_session_goes_on(
    tmp_path: Path, isolation: str
) -> None:
    problem = await asyncio.to_thread(probe_sandbox, dict(os.environ))
    if isolation == "sandbox" and problem is not None:
        pytest.skip(f"NOT TESTED, processes in a sandbox: {problem.reason}")
    command = f"(setsid sleep {NAP} &); sleep {NAP}"
    scenarios = [
        scenario(step({"tool": "Bash", "input": {"command": command}}), prompt="begin"),
        scenario(text_step("here again"), prompt="go on", history="begin"),
    ]
    variables = {"LOCAL_ISOLATION": isolation, "CLAUDE_MAX_WARM_SESSIONS": "0"}
    async with (
        ScriptedModel(scenarios) as model,
        system(tmp_path, **variables) as (manager, executor),
    ):
        async with manager.following("begin", reaching(model.url)) as live:
            started = [*await working(2), *family(executor.program.pid)]
            await manager.client.cancel(live.task_id, "changed my mind")
            run = await live.finished()
        assert await gone(started)
        assert commands() == []
        after = await manager.run("go on", reaching(model.url), live.session_id)
    assert run.verdict == ("cancelled", None)
    assert "changed my mind" in run.error
    assert run.kinds[-1] == "lifecycle.cancelled"
    assert after.answer == "here again"


async def test_a_queued_run_is_cancelled_and_the_run_before_it_goes_on(
    shared_system: System,
) -> None:
    manager = shared_system.manager
    async with ScriptedModel([work()]) as model:
        config = reaching(model.url)
        async with manager.following("work", config) as first:
            await first.reaches(model.gate("work"))
            async with manager.following("wait", config, first.session_id) as second:
                await manager.client.cancel(second.task_id, "not needed")
                queued = await second.finished()
            model.gate("work").release()
            done = await first.finished()
        prompts = [request.prompt for request in model.requests]
    assert queued.verdict == ("cancelled", None)
    assert queued.kinds == ["lifecycle.cancelled"]
    assert done.answer == "I begin. Done."
    assert set(prompts) == {"work"}


def request(model: ScriptedModel) -> dict[str, Any]:
    bot = {"agent_config": reaching(model.url)}
    return {"task_id": 7, "subtask_id": 70, "prompt": "work", "bot": bot}


async def test_sigterm_lets_the_run_finish_and_delivers_its_result(tmp_path: Path) -> None:
    async with (
        asyncio.timeout(RUN_SECONDS),
        ScriptedModel([work()]) as model,
        open_backend() as backend,
        executor_process(tmp_path / "home", backend.url, TOKEN) as executor,
    ):
        await executor.registered()
        assert (await backend.send(LocalEvent.DISPATCH, request(model)))["accepted"]
        await model.gate("work").reached.wait()
        agents = family(executor.program.pid)
        executor.program.signal(signal.SIGTERM)
        await executor.program.says("stopping")
        late = await backend.send(LocalEvent.DISPATCH, {**request(model), "subtask_id": 71})
        model.gate("work").release()
        assert await executor.program.ended() == 0
        result = (await backend.expect(LocalEvent.RESULT))["result"]
        goodbye = await backend.expect(LocalEvent.UNREGISTER)
    assert (late["accepted"], late["code"]) == (False, "draining")
    assert result["value"] == "I begin. Done."
    assert goodbye["runs"] == []
    assert agents != []
    assert await gone(agents)


async def test_a_name_lookup_that_hangs_does_not_hold_up_a_stop(tmp_path: Path) -> None:
    without_answers = """
import socket, threading
def lookup(*_, **__):
    print("looking up", flush=True)
    threading.Event().wait()
socket.getaddrinfo = lookup
from executor.main import main
main()
"""
    async with (
        asyncio.timeout(RUN_SECONDS),
        executor_process(
            tmp_path, "http://backend.invalid", TOKEN, command=["-c", without_answers]
        ) as executor,
    ):
        await executor.program.says("looking up")
        executor.program.signal(signal.SIGTERM)
        assert await executor.program.ended() == 0


async def test_a_second_sigint_ends_the_executor_and_its_agents_at_once(tmp_path: Path) -> None:
    async with (
        asyncio.timeout(RUN_SECONDS),
        ScriptedModel([work()]) as model,
        open_backend() as backend,
        executor_process(tmp_path / "home", backend.url, TOKEN) as executor,
    ):
        await executor.registered()
        assert (await backend.send(LocalEvent.DISPATCH, request(model)))["accepted"]
        await model.gate("work").reached.wait()
        agents = family(executor.program.pid)
        executor.program.signal(signal.SIGINT)
        await executor.program.says("stopping")
        executor.program.signal(signal.SIGINT)
        assert await executor.program.ended() == 130
    assert agents != []
    assert await gone(agents)
    assert "Traceback" not in executor.program.output
