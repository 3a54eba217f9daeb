"""Tasks over the HTTP API of a real manager: made, read and cancelled."""

from __future__ import annotations

import json
from typing import Any

import pytest

from executor_manager.request_secrets import merge
from executor_manager.store.nodes import NodeHello
from executor_manager.store.records import NewEvent
from shared.protocol.events import utc_timestamp
from shared.protocol.execution import read_execution_request
from tests.fakes.manager import RunningManager
from tests.fakes.store_bench import append_own

MARK = "Zq8-unmistakable-value"


async def post_task(manager: RunningManager, body: object) -> tuple[int, dict[str, Any]]:
    """Status and error of a task that should not be taken."""
    async with manager.client.post("/api/v1/tasks", json=body) as response:
        assert response.status >= 400, await response.text()
        return response.status, (await response.json())["error"]


# --- Making tasks -------------------------------------------------------------------------------


async def test_a_task_is_scheduled_in_a_session_of_its_own(manager: RunningManager) -> None:
    body = {"user_id": "user_1", "prompt": "hello"}
    async with manager.client.post("/api/v1/tasks", json=body) as response:
        assert response.status == 201
        created = await response.json()
    assert created == {
        "task_id": created["task_id"],
        "session_id": created["session_id"],
        "status": "scheduled",
        "executor_url": None,
        "container_id": None,
    }
    task = await manager.get(f"/api/v1/tasks/{created['task_id']}")
    assert (task["status"], task["progress"], task["attempt"]) == ("queued", 0, 1)
    assert task["created_at"].endswith("Z") and task["finished_at"] is None
    session = await manager.get(f"/api/v1/sessions/{created['session_id']}")
    assert (session["user_id"], session["status"]) == ("user_1", "queued")
    assert session["task_ids"] == [created["task_id"]]


async def test_the_config_reaches_the_executor_as_its_own_request(manager: RunningManager) -> None:
    created = await manager.create_task(
        "fix it",
        config={
            "model": "claude-x",
            "repo_url": "https://user:Zq8@example.org/a/b.git",
            "git_branch": "main",
            "git_token": MARK,
            "max_turns": 3,
            "allowed_tools": ["Read"],
            "timeout_seconds": 60,
            "env": {"api_key": MARK},
            "mcp_config": {"mcpServers": {"files": {"command": "x"}}},
            "variables": {"KEY": MARK},
            "skills": {"greet": {"SKILL.md": "Say hello."}},
            "input_files": {"a/b.txt": "x"},
            "agents": {"critic": {"description": "d", "prompt": "p"}},
            "commands": {"fix": "Fix it."},
            "user_input_timeout_seconds": 0,
            "on_node_loss": "requeue",
        },
    )
    redactor = manager.manager.api.state.services.redactor
    assert MARK not in redactor.redact(f"in a log line: {MARK}")
    sealed = await manager.store.runs.with_request(created["task_id"])
    assert sealed is not None
    run, public, secrets = sealed.run, sealed.request, sealed.secrets()
    assert MARK not in json.dumps(public) and "Zq8" not in json.dumps(public)
    assert run.on_node_loss == "requeue"
    whole = merge(public, secrets)
    request = read_execution_request({**whole, "task_id": run.session_id, "subtask_id": run.id})
    assert (request.prompt, request.model, request.max_turns) == ("fix it", "claude-x", 3)
    assert request.git_url == "https://user:Zq8@example.org/a/b.git"
    assert request.branch_name == "main"
    assert request.git_token is not None and request.git_token.get_secret_value() == MARK
    assert request.allowed_tools == ["Read"]
    assert request.first_bot.agent_config.env == {"api_key": MARK}
    assert request.first_bot.mcp_servers == {"files": {"command": "x"}}
    assert request.variables == {"KEY": MARK}
    assert [skill.name for skill in request.all_skills] == ["greet"]
    assert [file.filename for file in request.input_files] == ["a/b.txt"]
    assert (list(request.agents), list(request.commands)) == (["critic"], ["fix"])
    assert request.user_input_timeout_seconds == 0


async def test_a_team_reaches_the_executor_whole_and_its_keys_are_kept_apart(
    manager: RunningManager,
) -> None:
    servers = {"web": {"url": "https://tools.example/mcp", "headers": {"X": MARK}}}
    below = {"name": "Junior", "agent_config": {"env": {"api_key": MARK}}}
    created = await manager.create_task(
        config={
            "agent_type": "agno",
            "mode": "route",
            "bot": [
                {"name": "Lead"},
                {"name": "Senior", "mcp_servers": servers, "members": [below]},
            ],
            "env": {"api_key": MARK},
        },
    )
    sealed = await manager.store.runs.with_request(created["task_id"])
    assert sealed is not None
    public, secrets = sealed.request, sealed.secrets()
    assert MARK not in json.dumps(public)
    request = read_execution_request({**merge(public, secrets), "task_id": 1, "subtask_id": 1})

    assert (request.requested_agent, request.mode) == ("agno", "route")
    lead, senior = request.bot
    assert (lead.name, lead.agent_config.env) == ("Lead", {"api_key": MARK})
    assert senior.mcp_servers == servers
    assert senior.members[0].agent_config.env == {"api_key": MARK}


async def test_a_session_takes_the_next_task_of_its_user(manager: RunningManager) -> None:
    first = await manager.create_task()
    second = await manager.create_task(session_id=first["session_id"])
    assert second["session_id"] == first["session_id"]
    assert second["task_id"] != first["task_id"]


@pytest.mark.parametrize("whose", ["unknown", "another"])
async def test_a_session_of_nobody_or_of_another_user_is_not_found(
    manager: RunningManager, whose: str
) -> None:
    session = "unknown"
    if whose == "another":
        session = (await manager.create_task())["session_id"]
    status, error = await post_task(
        manager, {"user_id": "user_2", "prompt": "p", "session_id": session}
    )
    assert (status, error["code"]) == (404, "not_found")


@pytest.mark.parametrize("place", ["header", "body"])
async def test_a_key_makes_a_repeat_give_the_same_task(manager: RunningManager, place: str) -> None:
    body = {"user_id": "user_1", "prompt": "p"}
    headers = {"Idempotency-Key": "key-1"} if place == "header" else {}
    if place == "body":
        body["idempotency_key"] = "key-1"
    answers = []
    for _ in range(2):
        async with manager.client.post("/api/v1/tasks", json=body, headers=headers) as response:
            answers.append((response.status, await response.json()))
    assert [status for status, _ in answers] == [201, 200]
    assert answers[0][1] == answers[1][1]
    assert len((await manager.get("/api/v1/tasks"))["tasks"]) == 1


@pytest.mark.parametrize(
    "other",
    [{"prompt": "q"}, {"config": {"max_turns": 5}}, {"session_id": "of the second task"}],
    ids=lambda other: next(iter(other)),
)
async def test_a_key_that_was_used_for_another_task_is_a_conflict(
    manager: RunningManager, other: dict[str, Any]
) -> None:
    body: dict[str, Any] = {"user_id": "user_1", "prompt": "p", "config": {"git_token": "old"}}
    first = await manager.create_task(**body, idempotency_key="k")
    second = await manager.create_task(**body)
    if "session_id" in other:
        other = {"session_id": second["session_id"]}
    status, error = await post_task(manager, {**body, **other, "idempotency_key": "k"})
    assert (status, error["code"]) == (409, "idempotency_conflict")
    # A renewed secret makes no other task of it, nor does its session's name.
    again = {**body, "config": {"git_token": "new"}, "session_id": first["session_id"]}
    assert await manager.create_task(**again, idempotency_key="k") == first


async def test_a_key_belongs_to_its_user(manager: RunningManager) -> None:
    first = await manager.create_task(idempotency_key="k")
    second = await manager.create_task(idempotency_key="k", user_id="user_2")
    assert first["task_id"] != second["task_id"]


# --- Reading and cancelling ---------------------------------------------------------------------


async def run_on_a_node(manager: RunningManager, task_id: str) -> None:
    await manager.store.nodes.register(NodeHello(id="node-1", name="box", capacity=2), [])
    claimed = await manager.store.queue.claim(["node-1"])
    assert claimed is not None and claimed.run_id == task_id
    events = [NewEvent(1, "lifecycle.started", {}, utc_timestamp(), progress=10)]
    await manager.store.events.append("node-1", task_id, 1, events)


async def test_a_finished_task_shows_its_verdict(manager: RunningManager) -> None:
    task_id = (await manager.create_task())["task_id"]
    await run_on_a_node(manager, task_id)
    running = await manager.get(f"/api/v1/tasks/{task_id}")
    assert (running["status"], running["progress"], running["node_id"]) == ("running", 10, "node-1")
    assert running["started_at"] is not None
    data = {"result": "done", "workspace": {"path": "/w"}, "statistics": {"num_turns": 2}}
    verdict = [NewEvent(2, "lifecycle.completed", data, utc_timestamp(), progress=100)]
    await manager.store.events.append("node-1", task_id, 1, verdict)
    task = await manager.get(f"/api/v1/tasks/{task_id}")
    assert (task["status"], task["progress"], task["last_sequence"]) == ("completed", 100, 2)
    assert (task["result"], task["workspace"]) == ("done", {"path": "/w"})
    assert task["statistics"] == {"num_turns": 2}
    assert task["finished_at"] is not None


async def test_a_failed_task_shows_its_code_and_the_agents_words(manager: RunningManager) -> None:
    task_id = (await manager.create_task())["task_id"]
    data = {"error": "the clone hung", "error_code": "clone_failed"}
    await append_own(manager.store, task_id, "lifecycle.failed", data)
    task = await manager.get(f"/api/v1/tasks/{task_id}")
    assert (task["status"], task["error_code"]) == ("failed", "clone_failed")
    assert task["error"] == "the clone hung"


@pytest.mark.parametrize("told", [{"message": "no"}, ["no"], 5])
async def test_an_error_that_is_no_text_is_shown_as_text(
    manager: RunningManager, told: object
) -> None:
    task_id = (await manager.create_task())["task_id"]
    await append_own(manager.store, task_id, "lifecycle.failed", {"error": told})
    [task] = (await manager.get("/api/v1/tasks"))["tasks"]
    assert json.loads(task["error"]) == told


async def test_tasks_come_newest_first_page_by_page(manager: RunningManager) -> None:
    made = [(await manager.create_task())["task_id"] for _ in range(5)]
    seen: list[str] = []
    before = ""
    while True:
        page = await manager.get(f"/api/v1/tasks?limit=2{before}")
        seen += [task["task_id"] for task in page["tasks"]]
        if page["next_before"] is None:
            break
        before = f"&before={page['next_before']}"
    assert seen == made[::-1]


async def test_tasks_are_listed_by_status_and_by_session(manager: RunningManager) -> None:
    first = await manager.create_task()
    second = await manager.create_task()
    async with manager.client.post(f"/api/v1/tasks/{first['task_id']}/cancel") as response:
        assert response.status == 200
    cancelled = (await manager.get("/api/v1/tasks?status=cancelled"))["tasks"]
    of_second = (await manager.get(f"/api/v1/tasks?session_id={second['session_id']}"))["tasks"]
    assert [task["task_id"] for task in cancelled] == [first["task_id"]]
    assert [task["task_id"] for task in of_second] == [second["task_id"]]


async def test_a_queued_task_is_cancelled_at_once_with_its_reason(manager: RunningManager) -> None:
    task_id = (await manager.create_task())["task_id"]
    for _ in range(2):  # the second finds the verdict
        async with manager.client.post(
            f"/api/v1/tasks/{task_id}/cancel", json={"reason": "changed my mind"}
        ) as response:
            task = await response.json()
        assert (response.status, task["status"]) == (200, "cancelled")
        assert task["error"] == "changed my mind"
    assert task["last_sequence"] == 1


async def test_a_running_task_is_cancelling_until_its_node_has_answered(
    manager: RunningManager,
) -> None:
    created = await manager.create_task()
    await run_on_a_node(manager, created["task_id"])
    async with manager.client.post(f"/api/v1/tasks/{created['task_id']}/cancel") as response:
        assert (await response.json())["status"] == "cancelling"
    session = await manager.get(f"/api/v1/sessions/{created['session_id']}")
    assert session["status"] == "running"


async def test_a_task_whose_executor_is_away_says_so_until_it_is_back(
    manager: RunningManager,
) -> None:
    begun = await manager.create_task()
    await run_on_a_node(manager, begun["task_id"])
    waiting = await manager.create_task(session_id=begun["session_id"])
    elsewhere = await manager.create_task()
    nodes = manager.store.nodes

    async def reasons() -> list[str | None]:
        listed = (await manager.get("/api/v1/tasks"))["tasks"][::-1]
        tasks = [begun, waiting, elsewhere]
        shown = [await manager.get(f"/api/v1/tasks/{task['task_id']}") for task in tasks]
        assert shown == listed
        return [task["status_reason"] for task in shown]

    assert await reasons() == [None, None, None]
    await nodes.heartbeat("node-1", [(begun["task_id"], 1)], draining=True, free_slots=1)
    draining = "executor node-1, where this session lives, takes no new tasks now"
    assert await reasons() == [None, draining, None]
    await nodes.unregister("node-1", {(begun["task_id"], 1)})
    [node] = (await manager.get("/api/v1/nodes"))["nodes"]
    away = "executor node-1, where this session lives, has been unreachable since "
    assert await reasons() == [away + node["last_heartbeat"]] * 2 + [None]
    await nodes.heartbeat("node-1", [(begun["task_id"], 1)], draining=False, free_slots=1)
    assert await reasons() == [None, None, None]


async def test_nodes_and_health_tell_of_a_registered_node(manager: RunningManager) -> None:
    task_id = (await manager.create_task())["task_id"]
    await manager.create_task()
    await run_on_a_node(manager, task_id)
    [node] = (await manager.get("/api/v1/nodes"))["nodes"]
    assert (node["node_id"], node["name"], node["status"]) == ("node-1", "box", "online")
    assert (node["capacity"], node["running"]) == (2, 1)
    health = await manager.get("/api/v1/health")
    assert health == {
        "status": "ok",
        "version": health["version"],
        "nodes_online": 1,
        "tasks_queued": 1,
        "tasks_running": 1,
    }
