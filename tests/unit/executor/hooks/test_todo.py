"""The agent's list on the disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from executor.hooks import todo
from executor.hooks.base import TaskConfig, Todo
from executor.hooks.todo import TodoHook, changes
from shared.protocol.events import AgentEvent, EventType

CONFIG = TaskConfig(run_id="2", session_id="1", attempt=1, prompt="go", agent_type="claude_code")


def listed(*todos: tuple[str, str]) -> AgentEvent:
    entries = [{"content": content, "status": status} for content, status in todos]
    return AgentEvent(EventType.TODOS, {"todos": entries})


@pytest.fixture
async def hook(tmp_path: Path) -> TodoHook:
    (tmp_path / "1" / "repo").mkdir(parents=True)
    hook = TodoHook(lambda session_id: tmp_path / session_id)
    await hook.before_execution(CONFIG)
    return hook


def written(root: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((root / "1" / ".wegent" / "todos.json").read_text())
    return record


async def test_the_list_and_its_changes_are_written_as_they_come(
    hook: TodoHook, tmp_path: Path
) -> None:
    await hook.on_event(listed(("look", "in_progress"), ("fix", "pending")))
    assert [entry["status"] for entry in written(tmp_path)["todos"]] == ["in_progress", "pending"]
    second = listed(("look", "completed"), ("test", "pending"))
    await hook.on_event(second)
    record = written(tmp_path)
    assert (record["session_id"], record["run_id"]) == ("1", "2")
    assert [entry["content"] for entry in record["todos"]] == ["look", "test"]
    assert record["changes"][2:] == [
        {
            "timestamp": second.timestamp,
            "content": "look",
            "from": "in_progress",
            "to": "completed",
        },
        {"timestamp": second.timestamp, "content": "fix", "from": "pending", "to": None},
        {"timestamp": second.timestamp, "content": "test", "from": None, "to": "pending"},
    ]


async def test_a_run_without_a_list_writes_none(hook: TodoHook, tmp_path: Path) -> None:
    await hook.after_execution(True, None)
    assert not (tmp_path / "1" / ".wegent").exists()


async def test_only_the_newest_changes_are_kept(
    hook: TodoHook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = [(str(number), "pending") for number in range(todo.MAX_CHANGES + 7)]
    await hook.on_event(listed(*many))
    kept = written(tmp_path)["changes"]
    assert len(kept) == todo.MAX_CHANGES
    assert kept[-1]["content"] == many[-1][0]


def test_a_list_that_stays_the_same_has_no_changes() -> None:
    same = [Todo("look", "pending")]
    assert list(changes(same, same)) == []
