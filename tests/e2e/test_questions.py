"""What an agent asks, through every process and past the death of one."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from scripts.scripted_model import ScriptedModel
from tests.fakes.model import reaching, scenario, text_step, tool_step
from tests.fakes.processes import executor_process, manager_process

OPTIONS = [{"label": name, "description": name} for name in ("left", "right")]
QUESTION = {"question": "Which way?", "header": "way", "multiSelect": False, "options": OPTIONS}
ASKS = tool_step("AskUserQuestion", {"questions": [QUESTION]})


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
async def test_a_run_whose_executor_is_killed_while_it_asks_asks_anew_and_goes_on(
    tmp_path: Path,
) -> None:
    home = tmp_path / "executor"
    async with (
        ScriptedModel([scenario(ASKS, text_step("{last_tool_result}"))]) as model,
        manager_process(tmp_path / "manager") as manager,
        executor_process(home, manager.url, manager.executor_token) as first,
        manager.following("Do it", reaching(model.url)) as live,
    ):
        old = (await live.until("agent.input_required"))["data"]
        first.program.signal(signal.SIGKILL)
        await first.program.ended()
        async with executor_process(home, manager.url, manager.executor_token):
            resolved = (await live.until("agent.input_resolved"))["data"]
            assert resolved == {"request_id": old["request_id"], "outcome": "expired"}
            new = (await live.until("agent.input_required"))["data"]
            assert new["request_id"] != old["request_id"]
            body = {
                "request_id": new["request_id"],
                "decision": "answer",
                "answers": {"Which way?": "left"},
            }
            await manager.client.answer(live.task_id, body)
            run = await live.finished()
    assert '"Which way?"="left"' in run.answer
    outcomes = [data["outcome"] for data in run.data("agent.input_resolved")]
    assert outcomes == ["expired", "answered"]
