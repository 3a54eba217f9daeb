"""The HTTP API of a real manager, asked over real HTTP."""

from __future__ import annotations

import asyncio
import io
import json
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from fastapi.routing import iter_route_contexts
from sqlalchemy.event import listen
from sqlalchemy.exc import OperationalError
from yarl import URL

from executor_manager.app import MAX_BODY_BYTES
from executor_manager.request_secrets import merge
from executor_manager.store.nodes import NodeHello
from executor_manager.store.records import NewEvent
from shared.protocol.events import utc_timestamp
from shared.protocol.execution import read_execution_request
from shared.protocol.local import MAX_MESSAGE_BYTES
from tests.fakes.manager import RunningManager, running_manager

MARK = "Zq8-unmistakable-value"
ODD_IDS = ["nope", "%00", "%2e%2e", "a%2Fb", "%F0%9F%98%80", "%FF", "'", "a" * 5000, "-1", "%20"]


@pytest.fixture
async def manager(tmp_path: Path) -> AsyncIterator[RunningManager]:
    async with asyncio.timeout(30), running_manager(tmp_path / "home") as running:
        yield running


async def error_of(response: aiohttp.ClientResponse) -> dict[str, Any]:
    """The error of an answer, after checking that it has the shape that all have."""
    body = await response.json()
    assert list(body) == ["error"]
    assert list(body["error"]) == ["code", "message", "hint"]
    assert body["error"]["message"]
    error: dict[str, Any] = body["error"]
    return error


async def post_task(manager: RunningManager, body: object) -> tuple[int, dict[str, Any]]:
    """Status and error of a task that should not be taken."""
    async with manager.client.post("/api/v1/tasks", json=body) as response:
        assert response.status >= 400, await response.text()
        return response.status, await error_of(response)


# --- Tokens -------------------------------------------------------------------------------------


async def test_nothing_but_health_answers_without_a_token(manager: RunningManager) -> None:
    addresses = [
        (method, str(context.path))
        for context in iter_route_contexts(manager.manager.api.routes)
        for method in (context.methods or ["GET"])
    ]
    assert len(addresses) > 10
    for method, path in [*addresses, ("GET", "/nothing/here"), ("POST", "/api/v1/health")]:
        async with manager.anonymous.request(method, path) as response:
            if path == "/api/v1/health":
                assert response.status == (200 if method == "GET" else 405)
                continue
            assert response.status == 401, (method, path)
            assert response.headers["WWW-Authenticate"].startswith("Bearer")
            if method != "HEAD":
                assert (await error_of(response))["code"] == "unauthorized"


async def test_a_wrong_token_is_no_token(manager: RunningManager) -> None:
    api, executor = manager.api_token, manager.executor_token
    for header in [
        "Bearer", "Bearer ", "Bearer wrong", "Bearer tökén", "Basic !!", "Basic Og==",
        f"Token {api}", api, f"Bearer {executor}", f"Bearer {api}x", f"Bearer {api[:-1]}",
    ]:  # fmt: skip
        headers = {"Authorization": header}
        async with manager.anonymous.get("/api/v1/nodes", headers=headers) as response:
            assert response.status == 401, header


async def test_a_browser_reads_the_docs_with_the_token_as_password(
    manager: RunningManager,
) -> None:
    auth = {"Authorization": aiohttp.encode_basic_auth("anybody", manager.api_token)}
    async with manager.anonymous.get("/docs", headers=auth) as response:
        assert response.status == 200
        assert "/openapi.json" in await response.text()
    async with manager.anonymous.get("/openapi.json", headers=auth) as response:
        description = await response.json()
    assert description["components"]["securitySchemes"]["HTTPBearer"]["scheme"] == "bearer"
    assert "/api/v1/tasks/{task_id}/events" in description["paths"]


async def test_what_a_browser_repeats_by_itself_changes_nothing(manager: RunningManager) -> None:
    auth = {"Authorization": aiohttp.encode_basic_auth("anybody", manager.api_token)}
    body = {"user_id": "u", "prompt": "p"}
    async with manager.anonymous.post("/api/v1/tasks", json=body, headers=auth) as response:
        assert response.status == 401


async def test_a_websocket_outside_socketio_is_turned_away(manager: RunningManager) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        await manager.anonymous.ws_connect("/api/v1/health/socket")
    assert caught.value.status == 403


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


# --- Refusals -----------------------------------------------------------------------------------


DEEP: Any = json.loads("[" * 900 + "]" * 900)
WRONG_FIELDS: list[tuple[dict[str, Any], str]] = [
    ({"prompt": ""}, "prompt: "),
    ({"prompt": 5}, "prompt"),
    ({"prompt": None}, "prompt: "),
    ({"prompt": [{"type": "text"}]}, "prompt.0"),
    ({"user_id": ""}, "user_id: "),
    ({"user_id": "a\x00b"}, "user_id: "),
    ({"user_id": "\ud800"}, "user_id: "),
    ({"session_id": 5}, "session_id: "),
    ({"idempotency_key": "ü"}, "idempotency_key: "),
    ({"max_turns": 5}, "max_turns: unknown field"),
    ({"config": []}, "config: "),
    ({"config": {"max_turn": 5}}, "config.max_turn: unknown field"),
    ({"config": {MARK + " \n": 5}}, "config.(odd name): unknown field"),
    ({"config": {"max_turns": 0}}, "config.max_turns: "),
    ({"config": {"timeout_seconds": float("inf")}}, "config.timeout_seconds: "),
    ({"config": {"attachments": DEEP}}, "config.attachments: must not nest"),
    ({"prompt": [{"type": "image", "source": {"x": DEEP}}]}, "prompt: must not nest"),
    ({"config": {"repo_url": "ext::sh -c " + MARK}}, "config.repo_url: "),
    ({"config": {"repo_url": "--upload-pack=" + MARK}}, "config.repo_url: "),
    ({"config": {"git_branch": "-" + MARK}}, "config.git_branch: "),
    ({"config": {"env": [MARK]}}, "config.env: "),
    ({"config": {"mcp_servers": MARK}}, "config.mcp_servers: "),
    ({"config": {"permission_mode": MARK}}, "config.permission_mode: "),
    ({"config": {"attachments": [{"filename": MARK}]}}, "config.attachments.0: "),
    ({"config": {"isolation": MARK}}, "config.isolation: "),
    ({"config": {"on_node_loss": MARK}}, "config.on_node_loss: "),
]


async def test_a_wrong_field_is_named_and_its_value_is_not(manager: RunningManager) -> None:
    for fields, named in WRONG_FIELDS:
        status, error = await post_task(manager, {"user_id": "u", "prompt": "p"} | fields)
        assert (status, error["code"]) == (422, "invalid_request"), named
        assert named in error["message"]
        assert "Zq8" not in json.dumps(error), named
    assert (await manager.get("/api/v1/tasks"))["tasks"] == []


async def test_a_body_that_is_no_object_is_told_what_to_send(manager: RunningManager) -> None:
    headers = {"Content-Type": "application/json"}
    for body in [b"", b"[]", b"5", b'"text"', b"null"]:
        async with manager.client.post("/api/v1/tasks", data=body, headers=headers) as response:
            assert response.status == 422, body
            assert "application/json" in (await error_of(response))["hint"]


async def test_a_body_that_is_no_json_is_malformed(manager: RunningManager) -> None:
    headers = {"Content-Type": "application/json"}
    for body in [b"{", b'{"user_id": "\xff"}', b"[" * 100_000]:
        async with manager.client.post("/api/v1/tasks", data=body, headers=headers) as response:
            assert response.status == 400, body[:20]
            await error_of(response)


async def test_json_without_its_content_type_is_told_so(manager: RunningManager) -> None:
    async with manager.client.post(
        "/api/v1/tasks",
        data=b'{"user_id": "u", "prompt": "p"}',
        headers={"Content-Type": "text/plain"},
    ) as response:
        assert response.status == 422
        assert "Content-Type: application/json" in (await error_of(response))["hint"]


@pytest.mark.parametrize("declared", [True, False])
async def test_a_body_beyond_the_limit_is_too_large(
    manager: RunningManager, declared: bool
) -> None:
    piece = b" " * 1024 * 1024

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(MAX_BODY_BYTES // len(piece) + 1):
            yield piece

    headers = {"Content-Type": "application/json"}
    data: Any = io.BytesIO(b" " * (MAX_BODY_BYTES + 1)) if declared else pieces()
    async with manager.client.post("/api/v1/tasks", data=data, headers=headers) as response:
        assert response.status == 413
        assert (await error_of(response))["code"] == "too_large"


async def test_a_prompt_of_ten_megabytes_is_refused_by_name(manager: RunningManager) -> None:
    body = json.dumps({"user_id": "u", "prompt": "x" * 10_000_000}).encode()
    headers = {"Content-Type": "application/json"}
    async with manager.client.post(
        "/api/v1/tasks", data=io.BytesIO(body), headers=headers
    ) as response:
        assert response.status == 422
        assert (await error_of(response))["message"].startswith("prompt: must be at most")


async def test_a_task_that_fits_into_no_message_to_an_executor_is_refused(
    manager: RunningManager,
) -> None:
    attachments = [{"filename": "a", "content_base64": "A" * (MAX_MESSAGE_BYTES - 1000)}]
    body = {"user_id": "u", "prompt": "p", "config": {"attachments": attachments}}
    async with manager.client.post(
        "/api/v1/tasks",
        data=io.BytesIO(json.dumps(body).encode()),
        headers={"Content-Type": "application/json"},
    ) as response:
        assert response.status == 422
        error = await error_of(response)
    assert error["message"].startswith("config: the task is larger than")


async def test_half_of_a_surrogate_pair_in_a_prompt_is_stored(manager: RunningManager) -> None:
    created = await manager.create_task("a \ud800 b")
    assert (await manager.get(f"/api/v1/tasks/{created['task_id']}"))["status"] == "queued"


async def test_odd_ids_are_not_found(manager: RunningManager) -> None:
    for odd in ODD_IDS:
        for method, path in [
            ("GET", f"/api/v1/tasks/{odd}"),
            ("GET", f"/api/v1/tasks/{odd}/events"),
            ("POST", f"/api/v1/tasks/{odd}/cancel"),
            ("GET", f"/api/v1/sessions/{odd}"),
            ("GET", f"/api/v1/tasks?before={odd}"),
        ]:
            url = URL(path, encoded=True)
            async with manager.client.request(method, url) as response:
                assert response.status == 404, (method, path)
                await error_of(response)


async def test_unknown_addresses_and_methods_have_the_same_envelope(
    manager: RunningManager,
) -> None:
    async with manager.client.get("/api/v1/nothing") as response:
        assert response.status == 404
        assert (await error_of(response))["code"] == "not_found"
    async with manager.client.get("/api/v1/tasks/", allow_redirects=False) as response:
        assert response.status == 404
    async with manager.client.delete("/api/v1/tasks") as response:
        assert response.status == 405
        assert "GET" in response.headers["Allow"] or "POST" in response.headers["Allow"]
        assert (await error_of(response))["code"] == "method_not_allowed"


async def test_a_wrong_query_is_named_without_its_value(manager: RunningManager) -> None:
    for query in ["limit=0", "limit=201", "limit=x", "status=Zq8"]:
        async with manager.client.get(f"/api/v1/tasks?{query}") as response:
            assert response.status == 422
            error = await error_of(response)
        assert error["message"].startswith(query.partition("=")[0] + ": ")
        assert "Zq8" not in error["message"]


# --- Request ids and what nobody expected -------------------------------------------------------


async def test_a_request_id_is_kept_when_plain_and_made_when_not(manager: RunningManager) -> None:
    async with manager.anonymous.get(
        "/api/v1/health", headers={"X-Request-ID": "trace-7.a"}
    ) as response:
        assert response.headers["X-Request-ID"] == "trace-7.a"
    async with manager.anonymous.get("/docs", headers={"X-Request-ID": "a b"}) as response:
        assert len(response.headers["X-Request-ID"]) == 32


async def test_a_failure_inside_says_only_where_to_look(
    manager: RunningManager, caplog: pytest.LogCaptureFixture
) -> None:
    @manager.manager.api.get("/broken")
    async def broken() -> None:
        raise RuntimeError(MARK)

    async with manager.client.get("/broken", headers={"X-Request-ID": "r-1"}) as response:
        assert response.status == 500
        error = await error_of(response)
    assert error["code"] == "internal"
    assert MARK not in json.dumps(error)
    assert "r-1" in error["hint"]
    assert any(record.exc_info and "GET /broken" in record.message for record in caplog.records)


async def test_a_database_that_cannot_be_used_is_told_as_unavailable(
    manager: RunningManager,
) -> None:
    def refuse(*_: object) -> None:
        raise OperationalError("SELECT", {}, sqlite3.OperationalError("disk is full"))

    listen(manager.store.runs._database._engine.sync_engine, "before_cursor_execute", refuse)
    status, error = await post_task(manager, {"user_id": "u", "prompt": "p"})
    assert (status, error["code"]) == (503, "store_unavailable")
    assert "disk is full" in error["message"]
    async with manager.anonymous.get("/api/v1/health") as response:
        assert response.status == 503


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
    await manager.store.events.append_own(task_id, "lifecycle.failed", data)
    task = await manager.get(f"/api/v1/tasks/{task_id}")
    assert (task["status"], task["error_code"]) == ("failed", "clone_failed")
    assert task["error"] == "the clone hung"


@pytest.mark.parametrize("told", [{"message": "no"}, ["no"], 5])
async def test_an_error_that_is_no_text_is_shown_as_text(
    manager: RunningManager, told: object
) -> None:
    task_id = (await manager.create_task())["task_id"]
    await manager.store.events.append_own(task_id, "lifecycle.failed", {"error": told})
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
