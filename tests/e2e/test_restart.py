"""Kills, stops and restarts: every accepted run ends with one verdict, and nothing is lost."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from scripts.manager_client import Event
from scripts.scripted_model import ScriptedModel
from scripts.scripted_scenario import Scenario
from tests.fakes.backend import TOKEN, FakeBackend, open_backend
from tests.fakes.model import reaching, scenario, step, text_step, tool_step
from tests.fakes.processes import (
    START_SECONDS,
    STOP_SECONDS,
    ManagerProcess,
    Program,
    executor_process,
    family,
    gone,
    manager_process,
)
from tests.fakes.runs import RUN_SECONDS, FinishedRun, kind

QUICK = {"LOCAL_RECONNECT_MAX_DELAY": "1"}
"""The executor is not to wait for long after a manager that takes its time to start."""

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")


def restarted(manager: ManagerProcess) -> AbstractAsyncContextManager[ManagerProcess]:
    """The same manager again, where executors look for it."""
    return manager_process(manager.home, MANAGER_PORT=str(urlsplit(manager.url).port))


def conversation() -> list[Scenario]:
    """A turn that stops in the middle of a message, and what follows when it is taken up."""
    return [
        scenario(text_step("the rest"), prompt=["was cut off", "Do it"], name="continued"),
        scenario(
            tool_step(
                "Write", {"file_path": "{cwd}/half.txt", "content": "half\n"}, text="I begin. "
            ),
            step({"text": "This is "}, {"gate": "half"}, {"text": "never said"}),
            prompt="Do it",
        ),
    ]


def check_log(events: list[Event]) -> None:
    """The sequence has no gap; each message's chunks fit together and into its end."""
    assert [event["sequence"] for event in events] == list(range(1, len(events) + 1))
    texts: dict[str, str] = {}
    for event in events:
        data = event["data"]
        if kind(event) == "llm.stream":
            text = texts.setdefault(data["message_id"], "")
            assert data["offset"] == len(text)
            texts[data["message_id"]] = text + data["content"]
        elif kind(event) == "llm.done":
            assert data["content"] == texts[data["message_id"]]
    terminal = {"lifecycle.completed", "lifecycle.failed", "lifecycle.cancelled"}
    assert [kind(event) for event in events if kind(event) in terminal] == [kind(events[-1])]


def check_continued(run: FinishedRun) -> None:
    assert run.answer == "the rest"
    check_log(run.events)
    (error,) = run.data("llm.error")
    assert error["code"] == "interrupted"
    first, second = run.data("llm.start")
    assert error["message_id"] == first["message_id"] != second["message_id"]
    started = run.data("lifecycle.started")
    assert [data["resumed"] for data in started] == [False, True]
    (before, after) = run.data("agent.session")
    assert before["sdk_session_id"] == after["sdk_session_id"] == started[1]["session_id"]


async def end(executor: Program, signals: list[signal.Signals]) -> int:
    """Send these signals, one after the other; the exit status."""
    async with asyncio.timeout(STOP_SECONDS):
        for number, again in enumerate(signals):
            if number:
                await executor.says("stopping")  # a signal that comes before would be the same one
            executor.signal(again)
        return await executor.ended()


@pytest.mark.parametrize(
    ("signals", "grace_s", "status"),
    [
        ([signal.SIGKILL], 30, -signal.SIGKILL),
        ([signal.SIGTERM], 0, 0),
        ([signal.SIGINT], 0.5, 0),
        ([signal.SIGTERM, signal.SIGTERM], 30, 130),
    ],
    ids=["killed", "sigterm", "sigint", "twice"],
)
async def test_a_run_goes_on_in_its_conversation_after_the_next_start(
    tmp_path: Path, signals: list[signal.Signals], grace_s: float, status: int
) -> None:
    home = tmp_path / "executor"
    grace = {"LOCAL_SHUTDOWN_GRACE_SECONDS": str(grace_s)}
    async with (
        ScriptedModel(conversation()) as model,
        manager_process(tmp_path / "manager") as manager,
        executor_process(home, manager.url, manager.executor_token, **grace) as first,
        manager.following("Do it", reaching(model.url)) as live,
    ):
        await live.reaches(model.gate("half"))
        await live.until("llm.tool_result")
        agents = family(first.program.pid)
        assert await end(first.program, signals) == status
        if status >= 0:
            assert agents != []
            assert await gone(agents)
        async with executor_process(home, manager.url, manager.executor_token) as second:
            check_continued(await live.finished())
            half = second.workspace / live.session_id / "half.txt"
            assert await asyncio.to_thread(half.read_text) == "half\n"


async def test_a_run_goes_on_when_manager_and_executor_are_killed_together(tmp_path: Path) -> None:
    home = tmp_path / "executor"
    async with ScriptedModel(conversation()) as model:
        async with (
            manager_process(tmp_path / "manager") as manager,
            executor_process(home, manager.url, manager.executor_token) as first,
            manager.following("Do it", reaching(model.url)) as live,
        ):
            await live.reaches(model.gate("half"))
            await live.until("llm.tool_result")
            for program in (first.program, manager.program):
                program.signal(signal.SIGKILL)
                await program.ended()
        async with (
            executor_process(home, manager.url, manager.executor_token, **QUICK),
            restarted(manager) as again,
        ):
            events = [event async for event in again.client.events(live.task_id)]
            check_continued(FinishedRun(events, await again.client.task(live.task_id)))


async def test_a_killed_manager_changes_nothing_for_the_run(tmp_path: Path) -> None:
    async with (
        ScriptedModel(conversation()) as model,
        manager_process(tmp_path / "manager") as manager,
        executor_process(
            tmp_path / "executor", manager.url, manager.executor_token, **QUICK
        ) as executor,
    ):
        async with manager.following("Do it", reaching(model.url)) as live:
            await live.reaches(model.gate("half"))
            await live.until("llm.tool_result")
            manager.program.signal(signal.SIGKILL)
            await manager.program.ended()
            model.gate("half").release()
        async with restarted(manager) as again:
            await executor.registered(2)
            events = [event async for event in again.client.events(live.task_id)]
            run = FinishedRun(events, await again.client.task(live.task_id))
        assert run.answer == "This is never said"
        check_log(run.events)


async def test_a_base_backend_hears_before_the_goodbye_that_a_run_did_not_finish(
    tmp_path: Path,
) -> None:
    request: dict[str, Any] = {"task_id": 1, "subtask_id": "s", "prompt": "Do it"}
    async with (
        asyncio.timeout(RUN_SECONDS),
        ScriptedModel(conversation()) as model,
        open_backend(FakeBackend(register_ack=lambda _: {"success": True})) as backend,
        executor_process(
            tmp_path, backend.url, TOKEN, LOCAL_SHUTDOWN_GRACE_SECONDS="0"
        ) as executor,
    ):
        request["bot"] = [{"agent_config": reaching(model.url)}]
        await executor.registered()
        await backend.send("local:task:dispatch", request)
        await model.gate("half").reached.wait()
        executor.program.signal(signal.SIGTERM)
        assert await executor.program.ended() == 0
    (result,) = backend.payloads("local:task:result")
    assert result["result"]["error_code"] == "executor_restarted"
    assert [name for name, _ in backend.log][-2:] == [
        "local:task:result",
        "local:executor:unregister",
    ]


async def test_with_a_base_backend_an_interrupted_run_fails_after_the_restart(
    tmp_path: Path,
) -> None:
    request: dict[str, Any] = {"task_id": 1, "subtask_id": "s", "prompt": "Do it"}
    home = tmp_path / "executor"
    async with (
        ScriptedModel(conversation()) as model,
        open_backend(FakeBackend(register_ack=lambda _: {"success": True})) as backend,
    ):
        request["bot"] = [{"agent_config": reaching(model.url)}]
        async with executor_process(home, backend.url, TOKEN) as first:
            await backend.expect("local:executor:heartbeat")
            await backend.send("local:task:dispatch", request)
            async with asyncio.timeout(START_SECONDS):
                await model.gate("half").reached.wait()
            first.program.signal(signal.SIGKILL)
            await first.program.ended()
        async with executor_process(home, backend.url, TOKEN), asyncio.timeout(START_SECONDS):
            result = await backend.expect("local:task:result")
        assert result["status"] == "failed"
        assert result["result"]["error_code"] == "executor_restarted"
