"""An executor in docker mode as the program that an operator starts, and a client of its API."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import aiohttp

from tests.fakes import scripted_cli
from tests.fakes.processes import MODULE, START_SECONDS, Program, plain_environ, running
from tests.fakes.sse import Received, read_stream

LISTENING = "executor listening on "

SEED_002_TASK: Mapping[str, Any] = {
    "task_id": 1,
    "subtask_id": 1,
    "agent_type": "claude_code",
    "task_title": "Task Title",
    "subtask_title": "Subtask Title",
    "content": "Task Content",
    "repo_url": "https://github.com/example/repo.git",
    "branch": "main",
    "git_username": "user",
    "git_password": "password",
}
"""The sample body of the document that asked for docker mode, word for word."""

SEED_000_TASK: Mapping[str, Any] = {
    "session_id": "session_uuid",
    "prompt": "请分析代码",
    "callback_url": "http://executor-manager:8001/api/v1/callback",
    "callback_token": "token",
    "callback_base_url": "http://executor-manager:8001",
    "config": {
        "model": "claude-sonnet-4-20250514",
        "repo_url": "https://github.com/user/repo",
        "git_branch": "main",
        "mcp_config": {},
        "skill_files": {},
        "input_files": [],
    },
    "sdk_session_id": "claude_sdk_id",
}
"""The sample body of the document about the executor manager, but for what it leaves open."""


class DockerClient:
    """Asks an executor over HTTP; every method fails when the status is not the expected one."""

    def __init__(self, url: str, token: str | None) -> None:
        headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
        self.url = url
        self.http = aiohttp.ClientSession(url, headers=headers)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.http.close()

    async def ask(self, method: str, path: str, *, status: int = 200, **options: Any) -> Any:
        """The JSON of an answer."""
        async with self.http.request(method, path, **options) as response:
            assert response.status == status, await response.text()
            return await response.json()

    async def error(self, method: str, path: str, *, status: int, **options: Any) -> Any:
        """The error of an answer, after checking that it has the shape that all have."""
        body = await self.ask(method, path, status=status, **options)
        assert list(body) == ["error"]
        assert list(body["error"]) == ["code", "message", "hint"]
        return body["error"]

    async def execute(self, **task: Any) -> Any:
        """Give a task as a dispatch."""
        body = {"task_id": 1, "subtask_id": 1, "prompt": "hello"} | task
        return await self.ask("POST", "/api/tasks/execute", json=body)

    async def run(self, run_id: str) -> Any:
        """A run as it is now."""
        return await self.ask("GET", f"/v1/tasks/{run_id}")

    async def events(
        self, run_id: str, *, after: int | None = None, until: str | None = None
    ) -> list[Received]:
        """The events of a run up to the stream's end, or up to the first of type *until*."""
        headers = {} if after is None else {"Last-Event-ID": str(after)}
        received = []
        async with self.http.get(f"/v1/tasks/{run_id}/events", headers=headers) as response:
            assert response.status == 200, await response.text()
            async with aclosing(read_stream(response)) as stream:
                async for event in stream:
                    received.append(event)
                    if event.name == until:
                        return received
        return received

    async def finished(self, run_id: str) -> Any:
        """The run after its verdict."""
        async with asyncio.timeout(30):
            await self.events(run_id)
        return await self.run(run_id)


@dataclass(frozen=True)
class DockerProcess:
    """An executor that answers."""

    client: DockerClient
    home: Path
    workspace: Path
    program: Program

    @property
    def log(self) -> str:
        return (self.home / "logs" / "executor.log").read_text()


def docker_environ(place: Path, **variables: str) -> dict[str, str]:
    """What an operator sets for an executor in *place* whose agent is the scripted program."""
    place.mkdir(parents=True, exist_ok=True)
    usual = {
        "EXECUTOR_MODE": "docker",
        "PORT": "0",
        "WEGENT_EXECUTOR_HOME": str(place / "home"),
        "WORKSPACE_ROOT": str(place / "workspace"),
        "WEGENT_CLAUDE_PATH": str(scripted_cli.install(place)),
        "ANTHROPIC_API_KEY": "sk-of-the-executor",
        "LOCAL_ALLOW_LOCAL_REPOSITORIES": "true",
        "LOCAL_ISOLATION": "none",
    }
    return plain_environ(place / "user", **(usual | variables))


@asynccontextmanager
async def docker_process(
    place: Path,
    *,
    token: str | None = None,
    command: Sequence[str] = MODULE,
    executable: str = sys.executable,
    **variables: str,
) -> AsyncIterator[DockerProcess]:
    """Start an executor, its home and its workspace in *place*, and wait until it answers."""
    if token is not None:
        variables = {"EXECUTOR_API_TOKEN": token, "HOST": "127.0.0.1"} | variables
    env = docker_environ(place, **variables)
    async with running(*command, env=env, executable=executable) as program:
        async with asyncio.timeout(START_SECONDS):
            url = (await program.says(LISTENING)).partition(LISTENING)[2]
        async with DockerClient(url, token) as client:
            yield DockerProcess(client, place / "home", place / "workspace", program)
