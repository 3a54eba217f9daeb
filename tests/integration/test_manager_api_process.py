"""The manager as the program that an operator starts."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import socketio

from shared.protocol.local import NAMESPACE, LocalEvent
from shared.version import __version__
from tests.fakes.executor_client import ExecutorClient
from tests.fakes.sse import read_stream

LIMIT_SECONDS = 100.0


class Program:
    """A manager process. ``output`` has what it wrote to stdout and stderr after its start."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def listening(self) -> str:
        """Its address, once it answers."""
        assert self.process.stdout is not None
        line = (await self.process.stdout.readline()).decode()
        match = re.fullmatch(r"executor manager listening on (http://127\.0\.0\.1:\d+)\n", line)
        assert match is not None, line
        return match[1]

    async def ended(self) -> tuple[int, str, str]:
        """Exit status and what was left to read of stdout and stderr."""
        out, err = await self.process.communicate()
        assert self.process.returncode is not None
        return self.process.returncode, out.decode(), err.decode()


@asynccontextmanager
async def manager_program(home: Path, *arguments: str, **variables: str) -> AsyncIterator[Program]:
    root = Path(__file__).parents[2]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "executor_manager.main", *arguments,
        cwd=root,
        env={**os.environ, "MANAGER_HOME": str(home), "MANAGER_PORT": "0", **variables},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(LIMIT_SECONDS):
            yield Program(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def read_token(home: Path, name: str) -> str:
    return (home / name).read_text(encoding="utf-8").strip()


async def test_it_says_where_it_listens_and_how_to_go_on_without_a_secret(tmp_path: Path) -> None:
    home = tmp_path / "home"
    async with manager_program(home) as program:
        url = await program.listening()
        async with aiohttp.ClientSession(url) as client:
            async with client.get("/api/v1/health") as response:
                assert (await response.json())["version"] == __version__
            headers = {"Authorization": f"Bearer {read_token(home, 'api-token')}"}
            async with client.get("/api/v1/tasks/none?x=Zq8-query", headers=headers) as response:
                assert response.status == 404
        program.process.terminate()
        status, out, err = await program.ended()
    assert status == 0
    assert f"WEGENT_BACKEND_URL={url} " in out
    assert f'"$(cat {home}/executor-token)" wegent-executor' in out
    log = (home / "logs" / "manager.log").read_text(encoding="utf-8")
    assert "GET /api/v1/tasks/none: 404" in log
    for name in ("api-token", "executor-token", "encryption-key"):
        assert read_token(home, name) not in out + err + log
    assert "Zq8-query" not in err + log
    private = {path.name: oct(path.stat().st_mode & 0o077) for path in home.rglob("*")}
    assert set(private.values()) == {"0o0"}, private


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_with_a_stream_and_an_executor_open(
    tmp_path: Path, number: signal.Signals
) -> None:
    async with manager_program(tmp_path) as program:
        url = await program.listening()
        headers = {"Authorization": f"Bearer {read_token(tmp_path, 'api-token')}"}
        executor = socketio.AsyncClient(reconnection=False, handle_sigint=False)
        async with aiohttp.ClientSession(url, headers=headers) as client:
            await executor.connect(
                url,
                namespaces=[NAMESPACE],
                transports=["websocket"],
                auth={"token": read_token(tmp_path, "executor-token")},
            )
            body = {"user_id": "u", "prompt": "p"}
            async with client.post("/api/v1/tasks", json=body) as response:
                task_id = (await response.json())["task_id"]
            async with client.get(f"/api/v1/tasks/{task_id}/events") as response:
                assert response.status == 200
                program.process.send_signal(number)
                assert [event async for event in read_stream(response)] == []
            await executor.wait()
            status, _, err = await program.ended()
    assert status == 0
    assert "executor manager stopped" in err
    assert "graceful shutdown exceeded" not in err
    assert "Traceback" not in err


async def test_at_debug_no_prompt_and_no_secret_of_a_request_is_in_the_log(tmp_path: Path) -> None:
    async with manager_program(tmp_path, MANAGER_LOG_LEVEL="DEBUG") as program:
        url = await program.listening()
        headers = {"Authorization": f"Bearer {read_token(tmp_path, 'api-token')}"}
        executor = ExecutorClient()
        await executor.connect(url, read_token(tmp_path, "executor-token"))
        await executor.register()
        body = {"user_id": "u", "prompt": "Zq8-prompt", "config": {"git_token": "Zq8-token"}}
        async with aiohttp.ClientSession(url, headers=headers) as client:
            async with client.post("/api/v1/tasks", json=body) as response:
                task_id = (await response.json())["task_id"]
            request = await executor.expect(LocalEvent.DISPATCH)
            assert request["git_token"] == "Zq8-token"
            await executor.result(request, 1, value="Zq8-answer")
            async with client.get(f"/api/v1/tasks/{task_id}/events") as response:
                assert "Zq8-answer" in await response.text()
        await executor.close()
        program.process.terminate()
        _, _, err = await program.ended()
    assert "DEBUG" in err
    assert "Zq8" not in err + (tmp_path / "logs" / "manager.log").read_text(encoding="utf-8")


async def test_a_task_outlives_the_process_that_took_it(tmp_path: Path) -> None:
    body: dict[str, Any] = {"user_id": "u", "prompt": "p", "idempotency_key": "k"}
    answers = []
    for _ in range(2):
        async with manager_program(tmp_path) as program:
            url = await program.listening()
            headers = {"Authorization": f"Bearer {read_token(tmp_path, 'api-token')}"}
            async with (
                aiohttp.ClientSession(url, headers=headers) as client,
                client.post("/api/v1/tasks", json=body) as response,
            ):
                answers.append((response.status, (await response.json())["task_id"]))
            program.process.kill()
            await program.process.wait()
    assert [status for status, _ in answers] == [201, 200]
    assert answers[0][1] == answers[1][1]


async def test_a_port_in_use_is_told_by_the_name_of_its_setting(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        async with manager_program(tmp_path, MANAGER_PORT=port) as program:
            status, out, err = await program.ended()
    assert (status, out) == (1, "")
    assert f"MANAGER_PORT: port {port} is in use" in err
    assert "Traceback" not in err


async def test_an_address_that_is_not_ours_names_its_setting(tmp_path: Path) -> None:
    async with manager_program(tmp_path, MANAGER_HOST="not a host") as program:
        status, _, err = await program.ended()
    assert status == 1
    assert "MANAGER_HOST" in err


async def test_an_open_address_is_warned_about(tmp_path: Path) -> None:
    async with manager_program(tmp_path, MANAGER_HOST="0.0.0.0") as program:
        await program.listening()
        program.process.terminate()
        _, _, err = await program.ended()
    assert "WARNING" in err and "TLS" in err


async def test_a_wrong_setting_is_the_operators_to_change(tmp_path: Path) -> None:
    async with manager_program(tmp_path, MANAGER_API_TOKEN="changeme-changeme") as program:
        status, out, err = await program.ended()
    assert (status, out) == (2, "")
    assert err.startswith("wegent-executor-manager: MANAGER_API_TOKEN: is a placeholder")
    assert "changeme" not in err


async def test_a_database_that_is_none_ends_it_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "manager.db").write_bytes(b"this is no database " * 100)
    async with manager_program(tmp_path) as program:
        status, out, err = await program.ended()
    assert (status, out) == (1, "")
    assert "file is not a database" in err


async def test_version_is_told_and_unknown_arguments_are_refused(tmp_path: Path) -> None:
    async with manager_program(tmp_path, "--version") as program:
        status, out, _ = await program.ended()
    assert (status, out) == (0, f"wegent-executor-manager {__version__}\n")
    async with manager_program(tmp_path, "--nonsense") as program:
        status, _, err = await program.ended()
    assert status == 2
    assert "--nonsense" in err
