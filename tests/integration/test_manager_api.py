"""The HTTP API of a real manager, asked over real HTTP."""

from __future__ import annotations

import io
import json
import sqlite3
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from fastapi.routing import iter_route_contexts
from sqlalchemy.event import listen
from sqlalchemy.exc import OperationalError
from yarl import URL

from executor_manager.app import MAX_BODY_BYTES
from shared.protocol.local import MAX_MESSAGE_BYTES
from tests.fakes.manager import RunningManager

MARK = "Zq8-unmistakable-value"
ODD_IDS = ["nope", "%00", "%2e%2e", "a%2Fb", "%F0%9F%98%80", "%FF", "'", "a" * 5000, "-1", "%20"]


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
    ({"config": {"bot": MARK, "env": {"x": "y"}}}, "config.bot"),
    ({"config": {"bot": [{"max_turns": 0}]}}, "config.bot.0.max_turns: "),
    ({"config": {"bot": [{}, {"members": [{"name": [MARK]}]}]}}, "config.bot.1.members.0.name: "),
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
