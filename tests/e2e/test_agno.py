"""Teams of agno in the programs that an operator starts."""

from __future__ import annotations

import asyncio
from pathlib import Path

from scripts.scripted_model import ScriptedModel
from tests.fakes.agno import Agno, delegates, says
from tests.fakes.docker_mode import docker_process
from tests.fakes.model import KEY, scenario, text_step
from tests.fakes.processes import system


async def test_a_team_does_a_task_and_is_asked_again_after_a_restart(tmp_path: Path) -> None:
    again = scenario(text_step("I asked Ann."), system="LEAD", prompt="Whom", history="Ann said A.")
    team = [again, delegates("lead", "ann", "Say A", then="Ann said A."), says("ann", "A!")]
    async with asyncio.timeout(60), ScriptedModel(team) as model:
        agno = Agno(tmp_path, model)
        task = {"agent_type": "Agno", "bot": [agno.bot("lead"), agno.bot("ann")]}
        async with docker_process(tmp_path) as executor:
            await executor.client.execute(prompt="Letters, please", **task)
            first = await executor.client.finished("1")
            events = await executor.client.events("1")
        async with docker_process(tmp_path) as executor:
            await executor.client.execute(subtask_id=2, prompt="Whom did you ask?", **task)
            second = await executor.client.finished("2")
            log = executor.log

    assert (first["state"], first["result"]) == ("completed", "Ann said A.")
    assert (second["state"], second["result"]) == ("completed", "I asked Ann.")
    spoken = {
        event.data["source"]["agent_name"]: event.data["source"]["agent_type"]
        for event in events
        if event.name == "llm.done"
    }
    assert spoken == {"lead": "team_supervisor", "ann": "worker"}
    assert KEY not in log
    assert "Traceback" not in log


async def test_a_team_does_a_task_of_a_manager(tmp_path: Path) -> None:
    team = [delegates("lead", "ann", "Say A", then="Ann said A."), says("ann", "A!")]
    async with (
        asyncio.timeout(60),
        ScriptedModel(team) as model,
        system(tmp_path) as (manager, _),
    ):
        agno = Agno(tmp_path, model)
        bots = [agno.bot("lead"), agno.bot("ann")]
        run = await manager.run(
            "Letters, please", {"agent_type": "agno", "mode": "coordinate", "bot": bots}
        )

    assert run.answer == "Ann said A."
    [topology] = run.data("system.topology")
    assert topology["topology"]["mode"] == "coordinate"
    assert run.data("dispatch.worker") == [{"name": "ann", "task": "Say A"}]
    spoken = {
        event["source"]["agent_name"]: event["source"]["agent_type"]
        for event in run.events
        if (event["event"]["category"], event["event"]["action"]) == ("llm", "done")
    }
    assert spoken == {"lead": "team_supervisor", "ann": "worker"}
