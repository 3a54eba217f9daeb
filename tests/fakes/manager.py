"""A real executor manager in this process, on a free port of loopback."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from executor_manager.app import Manager, open_manager
from executor_manager.config import ManagerSettings
from executor_manager.server import ManagerServer
from executor_manager.store.records import RunRecord
from executor_manager.store.store import Store
from executor_manager.tokens import load_tokens, prepare_home
from shared.protocol.local import LocalEvent
from shared.redaction import Redactor
from shared.web.listening import bind, url_of
from tests.fakes.executor_client import ExecutorClient

START_AND_STOP_SECONDS = 60.0
"""Bound for either; each takes a fraction of a second."""


@dataclass(frozen=True)
class RunningManager:
    """A manager that answers.

    Attributes:
        client: Sends the API token; relative addresses go to the manager.
        anonymous: Sends no token.
    """

    url: str
    api_token: str
    executor_token: str
    client: aiohttp.ClientSession
    anonymous: aiohttp.ClientSession
    manager: Manager
    server: ManagerServer
    home: Path

    @property
    def store(self) -> Store:
        return self.manager.store

    async def create_task(self, prompt: str = "do it", **fields: Any) -> dict[str, Any]:
        """Make a task over HTTP; its ``TaskCreated``."""
        body = {"user_id": "user_1", "prompt": prompt, **fields}
        async with self.client.post("/api/v1/tasks", json=body) as response:
            created: dict[str, Any] = await response.json()
            assert response.status in (200, 201), created
            return created

    async def submit(self, **fields: Any) -> RunRecord:
        """Put a run into the queue, past the HTTP API."""
        given: dict[str, Any] = {"user_id": "u", "request": {"prompt": "hi"}, "secrets": {}}
        return await self.store.runs.create(**given | fields)

    async def dispatched(self, executor: ExecutorClient, **fields: Any) -> dict[str, Any]:
        """Submit a run and return its dispatch as *executor* got it."""
        await self.submit(**fields)
        return await executor.expect(LocalEvent.DISPATCH)

    async def wait_for(self, run_id: str, state: str) -> RunRecord:
        """The run once it is in *state*."""
        with self.manager.streams._hub.follow(run_id) as wake_up:
            while True:
                await wake_up.wait()
                run = await self.store.runs.get(run_id)
                assert run is not None
                if run.state == state:
                    return run

    @asynccontextmanager
    async def executor(
        self, executor_id: str = "executor-1", *, register: bool = True
    ) -> AsyncIterator[ExecutorClient]:
        """A connected executor, registered unless told otherwise."""
        client = ExecutorClient(executor_id)
        await client.connect(self.url, self.executor_token)
        try:
            if register:
                await client.register()
            yield client
        finally:
            await client.close()

    async def get(self, path: str) -> dict[str, Any]:
        """What a GET answers, which must be 200."""
        async with self.client.get(path) as response:
            body: dict[str, Any] = await response.json()
            assert response.status == 200, body
            return body


@asynccontextmanager
async def running_manager(
    home: Path,
    *,
    keepalive_seconds: float = 15.0,
    call_timeout_s: float = 10.0,
    poll_s: float = 2.0,
    **settings: Any,
) -> AsyncIterator[RunningManager]:
    """Start a manager whose home is *home*; stopped at the end, streams and sockets included.

    Args:
        settings: Fields of :class:`ManagerSettings`; the others are those of ``open_manager``.
    """
    listening: asyncio.Future[tuple[Manager, ManagerServer, Mapping[str, str]]] = (
        asyncio.get_running_loop().create_future()
    )
    stop = asyncio.Event()
    chosen = ManagerSettings(home=home, **{"port": 0, **settings})
    listener = await asyncio.to_thread(bind, chosen.host, chosen.port)
    # A task of its own: a fixture's two halves may run in different ones, a task group's may not.
    timing = {
        "keepalive_seconds": keepalive_seconds,
        "call_timeout_s": call_timeout_s,
        "poll_s": poll_s,
    }
    running = asyncio.create_task(_run(chosen, listener, timing, listening, stop))
    try:
        async with asyncio.timeout(START_AND_STOP_SECONDS):
            first: set[asyncio.Future[Any]] = {running, listening}
            await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            running.result()
        manager, server, tokens = listening.result()
        url = url_of(listener)
        headers = {"Authorization": f"Bearer {tokens['api']}"}
        async with (
            aiohttp.ClientSession(url, headers=headers) as client,
            aiohttp.ClientSession(url) as anonymous,
        ):
            yield RunningManager(
                url=url,
                api_token=tokens["api"],
                executor_token=tokens["executor"],
                client=client,
                anonymous=anonymous,
                manager=manager,
                server=server,
                home=home,
            )
    finally:
        stop.set()
        listening.cancel()
        async with asyncio.timeout(START_AND_STOP_SECONDS):
            await running
        listener.close()


async def _run(
    settings: ManagerSettings,
    listener: socket.socket,
    timing: Mapping[str, float],
    listening: asyncio.Future[tuple[Manager, ManagerServer, Mapping[str, str]]],
    stop: asyncio.Event,
) -> None:
    await asyncio.to_thread(prepare_home, settings.home)
    tokens = await asyncio.to_thread(load_tokens, settings)
    async with (
        open_manager(settings, tokens, Redactor(), **timing) as manager,
        asyncio.TaskGroup() as group,
    ):
        server = ManagerServer(manager)
        group.create_task(server.serve([listener]))
        await server.listening.wait()
        plain = {
            "api": tokens.api.get_secret_value(),
            "executor": tokens.executor.get_secret_value(),
        }
        if not listening.done():
            listening.set_result((manager, server, plain))
        await stop.wait()
        server.stop()
