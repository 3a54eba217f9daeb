"""A session's conversation goes on: in the warm process, by resuming, and after a crash."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Any

import pytest

from scripts.scripted_model import ScriptedModel
from scripts.scripted_scenario import Scenario
from shared.protocol.local import LocalEvent
from tests.e2e.conftest import System
from tests.fakes.backend import TOKEN, FakeBackend, open_backend
from tests.fakes.model import reaching, scenario, step, text_step
from tests.fakes.processes import executor_process, family, gone, manager_process
from tests.fakes.runs import RUN_SECONDS

pytestmark = pytest.mark.asyncio(loop_scope="module")


def memory() -> list[Scenario]:
    """A model that says which of the prompts ``first`` and ``second`` it has seen before."""
    return [
        scenario(text_step("remember both"), prompt="third", history=["first", "second"]),
        scenario(text_step("remember one"), prompt="second", history="first"),
        scenario(text_step("remember nothing")),
    ]


async def test_a_follow_up_resumes_the_conversation_and_new_session_forgets_it(
    shared_system: System,
) -> None:
    manager = shared_system.manager
    async with ScriptedModel(memory()) as model:
        async with manager.following("first", reaching(model.url)) as live:
            first = await live.finished()
        session = live.session_id
        second = await manager.run("second", reaching(model.url), session)
        third = await manager.run("third", reaching(model.url), session)
        afresh = await manager.run("second", {**reaching(model.url), "new_session": True}, session)
    assert [run.answer for run in (first, second, third, afresh)] == [
        "remember nothing",
        "remember one",
        "remember both",
        "remember nothing",
    ]
    started = [run.data("lifecycle.started")[0] for run in (first, second, third, afresh)]
    assert [data["resumed"] for data in started] == [False, True, True, False]
    ids = [run.data("agent.session")[0]["sdk_session_id"] for run in (first, second, afresh)]
    assert ids[0] == ids[1] != ids[2]
    assert len({run.cwd for run in (first, second, third, afresh)}) == 1


async def _turn(backend: FakeBackend, event: LocalEvent, request: dict[str, Any]) -> str:
    assert (await backend.send(event, {"task_id": "talk", **request}))["accepted"]
    result = await backend.expect(LocalEvent.RESULT)
    assert result["status"] == "completed", result
    answer: str = result["result"]["value"]
    return answer


async def test_a_message_uses_the_warm_process_and_a_closed_session_goes_on_in_a_new_one(
    tmp_path: Path,
) -> None:
    async with (
        asyncio.timeout(RUN_SECONDS),
        ScriptedModel(memory()) as model,
        open_backend() as backend,
        executor_process(tmp_path / "home", backend.url, TOKEN) as executor,
    ):
        bot = {"bot": {"agent_config": reaching(model.url)}}
        await executor.registered()
        first = {"subtask_id": 1, "prompt": "first", **bot}
        assert await _turn(backend, LocalEvent.DISPATCH, first) == "remember nothing"
        warm = family(executor.program.pid)
        assert warm != []
        second = {"subtask_id": 2, "content": "second", **bot}
        assert await _turn(backend, LocalEvent.MESSAGE, second) == "remember one"
        assert family(executor.program.pid) == warm

        assert await backend.send(LocalEvent.CLOSE, {"task_id": "talk"}) == {"success": True}
        assert await gone(warm)
        third = {"subtask_id": 3, "prompt": "third", **bot}
        assert await _turn(backend, LocalEvent.MESSAGE, third) == "remember both"
    assert await gone(family(executor.program.pid))


async def test_a_conversation_survives_a_restart_and_a_kill_in_the_middle_of_a_turn(
    tmp_path: Path,
) -> None:
    cut_off = scenario(step({"text": "I begin"}, {"gate": "working"}), prompt="second")
    async with (
        ScriptedModel([memory()[0], cut_off, memory()[2]]) as model,
        manager_process(tmp_path / "manager") as manager,
    ):
        home, token = tmp_path / "executor", manager.executor_token
        config = reaching(model.url)
        async with executor_process(home, manager.url, token) as executor:
            await executor.registered()
            async with manager.following("first", config) as live:
                assert (await live.finished()).answer == "remember nothing"

        async with (
            executor_process(home, manager.url, token) as executor,
            manager.following("second", config, live.session_id) as cut,
        ):
            await cut.until("agent.session")
            await cut.reaches(model.gate("working"))
            agents = family(executor.program.pid)
            executor.program.signal(signal.SIGKILL)
            assert await executor.program.ended() == -signal.SIGKILL
            # The CLI ends by itself when its answer is there and nobody reads it any more.
            model.gate("working").release()
            assert await gone(agents)

            async with executor_process(home, manager.url, token) as executor:
                await executor.registered()
                taken_up = await cut.finished()
                third = await manager.run("third", config, live.session_id)
    assert taken_up.answer == "I begin"
    assert third.answer == "remember both"
    assert third.data("lifecycle.started")[0]["resumed"]
