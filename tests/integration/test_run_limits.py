"""Runs of the real CLI that stall, meet rate limits or use their limits up."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from executor.agents.claude_code.past_cost import past_cost_usd
from executor.tasks.in_process import InProcessRunHandler
from executor.tasks.redispatch import continued
from executor.tasks.run_handler import Run
from scripts.scripted_model import ScriptedModel
from scripts.scripted_scenario import Scenario
from shared.protocol.events import AgentEvent, EventType, RunRef
from shared.protocol.execution import ExecutionRequest
from tests.fakes.agent import in_process
from tests.fakes.agent_jobs import make_request
from tests.fakes.claude import claude_agent
from tests.fakes.model import error_step, reaching, scenario, step, text_step, tool_step

SILENT = step({"text": "I begin."}, {"hang": True})
AFTER_STALL = "no sign of life"
AFTER_LIMIT = "rate limit"


class Runs:
    """Runs in this process, one after another, against a scripted model."""

    def __init__(self, handler: InProcessRunHandler, model: ScriptedModel) -> None:
        self.handler = handler
        self.model = model
        self.told: list[AgentEvent] = []
        self._came = asyncio.Event()

    async def heard(self) -> None:
        """Wait until something more is told."""
        self._came.clear()
        await self._came.wait()

    def request(self, prompt: str = "ONE", **fields: Any) -> ExecutionRequest:
        fields.setdefault("subtask_id", 1)
        env = reaching(self.model.url, **fields.pop("env", {}))["env"]
        bot = {"agent_config": {"env": env}}
        return make_request(prompt, bot=bot, **fields)

    def start(self, prompt: str = "ONE", **fields: Any) -> Run:
        return self.handler.start(self.request(prompt, **fields))

    async def follow(self, run: Run) -> AgentEvent:
        """The verdict."""
        async with asyncio.timeout(60):
            async for event in run.events():
                self.told.append(event)
                self._came.set()
        return self.told[-1]

    async def carry_out(self, prompt: str = "ONE", **fields: Any) -> AgentEvent:
        return await self.follow(self.start(prompt, **fields))

    def data(self, kind: EventType) -> list[dict[str, Any]]:
        return [dict(event.data) for event in self.told if event.type == kind]

    @property
    def warnings(self) -> list[str]:
        return [data["message"] for data in self.data(EventType.WARNING)]

    @property
    def conversations(self) -> set[str]:
        return {data["sdk_session_id"] for data in self.data(EventType.SESSION)}


@asynccontextmanager
async def running(place: Path, *scenarios: Scenario) -> AsyncIterator[Runs]:
    async with (
        ScriptedModel(scenarios) as model,
        in_process(claude_agent(), place, environ=dict(os.environ)) as handler,
    ):
        yield Runs(handler, model)


def agents() -> list[psutil.Process]:
    """The CLI processes of this process."""
    return [child for child in psutil.Process().children() if "claude" in child.name()]


async def test_a_model_that_falls_silent_is_asked_again_in_the_same_conversation(
    tmp_path: Path,
) -> None:
    scenarios = [
        scenario(text_step("I went on."), prompt=AFTER_STALL, history="ONE"),
        scenario(SILENT, prompt="ONE"),
    ]
    async with running(tmp_path, *scenarios) as runs:
        verdict = await runs.carry_out(stall_timeout_seconds=2)
    assert (verdict.type, verdict.data["result"]) == (EventType.COMPLETED, "I went on.")
    assert len(runs.conversations) == 1
    assert "goes on once more" in runs.warnings[0]
    assert [data["code"] for data in runs.data(EventType.LLM_ERROR)] == ["stalled"]
    assert verdict.data["statistics"]["num_turns"] == 2


async def test_a_model_that_stays_silent_ends_the_run_as_stalled_without_a_process(
    tmp_path: Path,
) -> None:
    async with running(tmp_path, scenario(SILENT)) as runs:
        verdict = await runs.carry_out(stall_timeout_seconds=1)
        assert await asyncio.to_thread(agents) == []
    assert verdict.data["error_code"] == "stalled"
    assert verdict.data["error"] == "the agent showed no sign of life for 1 s"
    assert len(runs.warnings) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="a shell command")
async def test_a_command_that_computes_in_silence_is_no_stall(tmp_path: Path) -> None:
    # In a session of its own, in children that end, and in a daemon that the tree has lost.
    work = "end=$(($(date +%s) + 4)); while [ $(date +%s) -lt $end ]; do :; done"
    command = tool_step("Bash", {"command": f"setsid sh -c '{work}'; echo computed"})
    async with running(tmp_path, scenario(command, text_step("Done."))) as runs:
        verdict = await runs.carry_out(stall_timeout_seconds=2)
    assert verdict.data.get("result") == "Done.", verdict.data
    assert "computed" in runs.data(EventType.TOOL_RESULT)[0]["result"]
    assert runs.warnings == []


NAP = f"614.1{os.getpid()}"
"""Seconds that the command of the next test sleeps, and nobody else's."""


@pytest.mark.skipif(sys.platform == "win32", reason="a shell command")
async def test_a_command_that_only_sleeps_is_a_stall_and_ends(tmp_path: Path) -> None:
    scenarios = [
        scenario(text_step("I do without."), prompt=AFTER_STALL),
        scenario(tool_step("Bash", {"command": f"exec sleep {NAP}", "timeout": 600_000})),
    ]
    async with running(tmp_path, *scenarios) as runs:
        verdict = await runs.carry_out(stall_timeout_seconds=2)
        everybody = psutil.process_iter(["cmdline"])
        sleeping = [p for p in everybody if p.info["cmdline"] == ["sleep", NAP]]
    assert verdict.data.get("result") == "I do without.", verdict.data
    assert sleeping == []


async def test_the_clis_own_pause_before_a_retry_is_no_stall(tmp_path: Path) -> None:
    refusing = scenario(error_step(529, retry_after_s=4, times=1, then="fine after all"))
    async with running(tmp_path, refusing) as runs:
        env = {"CLAUDE_CODE_MAX_RETRIES": "1"}
        verdict = await runs.carry_out(stall_timeout_seconds=2, env=env)
    assert verdict.data.get("result") == "fine after all", verdict.data
    (warning,) = runs.warnings
    assert "HTTP 529" in warning


@pytest.mark.parametrize("status", [429, 529])
async def test_a_rate_limit_is_waited_out_and_the_conversation_goes_on(
    tmp_path: Path, status: int
) -> None:
    scenarios = [
        scenario(text_step("I went on."), prompt=AFTER_LIMIT),
        scenario(tool_step("Bash", {"command": "echo before"}), error_step(status), prompt="ONE"),
    ]
    async with running(tmp_path, *scenarios) as runs:
        verdict = await runs.carry_out(stall_timeout_seconds=2)
    assert verdict.data.get("result") == "I went on.", verdict.data
    assert len(runs.conversations) == 1
    assert "the run waits until" in runs.warnings[0]
    assert verdict.data["statistics"]["num_turns"] == 2


async def test_a_limit_that_is_lifted_too_late_fails_the_run_at_once_and_says_when(
    tmp_path: Path,
) -> None:
    lifted = int(time.time()) + 7200
    refusing = scenario(error_step(429, message=f"Claude AI usage limit reached|{lifted}"))
    async with running(tmp_path, refusing) as runs:
        verdict = await runs.carry_out(timeout_seconds=3600)
    assert verdict.data["error_code"] == "rate_limited"
    assert time.strftime("%Y-%m-%dT%H:", time.gmtime(lifted)) in verdict.data["error"]


async def test_a_long_wait_holds_no_process_and_ends_with_a_cancel(tmp_path: Path) -> None:
    lifted = int(time.time()) + 1800
    refusing = scenario(error_step(429, message=f"Claude AI usage limit reached|{lifted}"))
    async with running(tmp_path, refusing) as runs:
        run = runs.start(timeout_seconds=3600)
        following = asyncio.create_task(runs.follow(run))
        async with asyncio.timeout(30):
            while not any("the run waits" in warning for warning in runs.warnings):
                await runs.heard()
            # The process's end is told to nobody.
            while await asyncio.to_thread(agents):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        await run.cancel("enough")
        verdict = await following
    assert (verdict.type, verdict.data["reason"]) == (EventType.CANCELLED, "enough")
    assert verdict.data["statistics"]["num_turns"] == 0


async def test_the_turns_of_all_attempts_count_together(tmp_path: Path) -> None:
    command = tool_step("Bash", {"command": "echo again"})
    scenarios = [
        scenario(*[command] * 5, text_step("never"), prompt=AFTER_STALL),
        scenario(command, SILENT, prompt="ONE"),
    ]
    async with running(tmp_path, *scenarios) as runs:
        verdict = await runs.carry_out(stall_timeout_seconds=2, max_turns=5)
    assert verdict.data["error_code"] == "max_turns"
    # One, the answer that broke off, and what was left of five.
    assert len(runs.data(EventType.TOOL_CALL)) == 1 + 3


async def test_a_resumed_conversation_costs_only_what_its_run_adds(tmp_path: Path) -> None:
    scenarios = [scenario(text_step(word), prompt=word) for word in ("ONE", "TWO", "THREE")]
    costs = []
    async with running(tmp_path, *scenarios) as runs:
        for number, word in enumerate(("ONE", "TWO", "THREE")):
            verdict = await runs.carry_out(word, subtask_id=number)
            costs.append(verdict.data["statistics"]["total_cost_usd"])
            await runs.handler.close_session(1)
    assert len(runs.conversations) == 1
    assert all(0 < cost < 1.5 * costs[0] for cost in costs), costs


async def test_a_restart_gives_a_run_no_turns_and_no_budget_anew(tmp_path: Path) -> None:
    command = tool_step("Bash", {"command": "echo again"})
    scenarios = [
        scenario(*[command] * 5, text_step("never"), prompt="was restarted", history="ONE"),
        scenario(command, SILENT, prompt="ONE"),
    ]
    async with running(tmp_path, *scenarios) as runs:
        await runs.handler.state.accept(RunRef(1, 1))
        following = asyncio.create_task(runs.follow(runs.start(max_turns=4)))
        async with asyncio.timeout(30):
            while not runs.data(EventType.LLM_STREAM):
                await runs.heard()
        following.cancel()  # as a drain ends it
        await asyncio.wait({following})
        (conversation,) = runs.conversations
        interrupted = runs.request(max_turns=4)
        resumed = runs.handler.start(continued(interrupted, conversation))
        verdict = await runs.follow(resumed)
    assert verdict.data["error_code"] == "max_turns"
    assert len(runs.data(EventType.TOOL_CALL)) == 1 + 3
    all_told = await asyncio.to_thread(past_cost_usd, tmp_path / "claude", conversation)
    assert verdict.data["statistics"]["total_cost_usd"] == pytest.approx(all_told)
