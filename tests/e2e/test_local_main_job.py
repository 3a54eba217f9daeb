"""The main job: a task over HTTP becomes work of the real CLI in a checkout, and comes back."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import aclosing
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from scripts.scripted_model import ScriptedModel
from scripts.scripted_scenario import Scenario
from tests.e2e.conftest import System
from tests.fakes.model import reaching, scenario, step, text_step
from tests.fakes.runs import FinishedRun

pytestmark = pytest.mark.asyncio(loop_scope="module")


def todos(first: str, second: str) -> dict[str, Any]:
    work = [("Read it", "Reading it", first), ("Change it", "Changing it", second)]
    listed = [
        {"content": content, "activeForm": active, "status": status}
        for content, active, status in work
    ]
    return {"tool": "TodoWrite", "input": {"todos": listed}}


def edit_job() -> Scenario:
    path = "{cwd}/greeting.txt"
    change = {"file_path": path, "old_string": "hello", "new_string": "good morning"}
    return scenario(
        step(
            {"thinking": "I have to look first."},
            {"text": "I look at the file first. "},
            todos("in_progress", "pending"),
            {"tool": "Read", "input": {"file_path": path}},
        ),
        step(todos("completed", "in_progress"), {"tool": "Edit", "input": change}),
        step({"text": "This is it now. "}, {"tool": "Bash", "input": {"command": "cat *.txt"}}),
        step(todos("completed", "completed")),
        text_step("The greeting is friendlier now. " * 20),
    )


async def test_a_task_over_http_is_done_in_a_checkout_and_told_from_first_event_to_verdict(
    shared_system: System, repository: str
) -> None:
    progress = []
    async with (
        ScriptedModel([edit_job()]) as model,
        shared_system.manager.following(
            "Be friendlier", {"repo_url": repository, **reaching(model.url)}
        ) as live,
    ):
        async with aclosing(live.told()) as events:
            async for _ in events:
                task = await shared_system.manager.client.task(live.task_id)
                progress.append(task["progress"])
        run = await live.finished()

    assert run.verdict == ("completed", None)
    assert run.answer == "The greeting is friendlier now. " * 20
    _is_told_in_order(run)
    _text_is_its_chunks_joined(run)
    assert all(before <= after for before, after in pairwise(progress))
    assert progress[-1] == 100

    checkout = shared_system.executor.workspace / live.session_id / "greeter"
    assert run.cwd == checkout
    assert (checkout / "greeting.txt").read_text() == "good morning\n"
    [file] = run.task["workspace"]["files"]
    assert file == {
        "path": "greeting.txt",
        "status": "modified",
        "added_lines": 1,
        "removed_lines": 1,
    }
    assert run.data("workspace.changed")[0]["files"] == [file]
    assert run.task["workspace"]["path"] == str(checkout)
    assert len(run.task["workspace"]["commit"]) == 40
    assert run.task["statistics"]["num_turns"] >= 5
    assert "greeting.txt" in run.data("llm.tool_call")[1]["arguments"]["file_path"]
    assert "good morning" in run.data("llm.tool_result")[-2]["result"]
    assert [todo["status"] for todo in run.data("agent.todos")[-1]["todos"]] == ["completed"] * 2

    assert await asyncio.to_thread(_kept_secrets, shared_system.manager.home) == []


def _is_told_in_order(run: FinishedRun) -> None:
    assert [event["sequence"] for event in run.events] == list(range(1, len(run.events) + 1))
    first_of = [
        "lifecycle.started",
        "workspace.prepared",
        "agent.session",
        "llm.start",
        "llm.stream",
        "llm.tool_call",
        "llm.tool_result",
        "llm.done",
        "workspace.changed",
        "lifecycle.completed",
    ]
    places = [run.kinds.index(kind) for kind in first_of]
    assert places == sorted(places)
    assert {"llm.reasoning", "agent.todos"} <= set(run.kinds)
    assert [kind for kind in run.kinds if kind.startswith("lifecycle.")] == [
        "lifecycle.started",
        "lifecycle.completed",
    ]
    assert run.kinds[-1] == "lifecycle.completed"
    calls = [data["tool_id"] for data in run.data("llm.tool_call")]
    assert [data["tool_id"] for data in run.data("llm.tool_result")] == calls


def _text_is_its_chunks_joined(run: FinishedRun) -> None:
    said: dict[str, str] = {}
    for data in run.data("llm.stream"):
        before = said.get(data["message_id"], "")
        assert data["offset"] == len(before)
        said[data["message_id"]] = before + data["content"]
    assert said == {data["message_id"]: data["content"] for data in run.data("llm.done")}
    assert [data["message_id"] for data in run.data("llm.start")] == list(said)


def _kept_secrets(manager_home: Path) -> list[object]:
    [database] = manager_home.glob("*.db")
    with sqlite3.connect(database) as connection:
        return connection.execute("select * from secrets").fetchall()
