"""A manager's executor side on a real socket: namespace, dispatcher and store, without HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import socketio
import uvicorn

from executor_manager.nodes.connections import Connections
from executor_manager.nodes.messages import Messages
from executor_manager.nodes.namespace import LocalExecutorNamespace
from executor_manager.scheduler.dispatcher import Dispatcher
from executor_manager.store.records import RunRecord
from executor_manager.store.store import Store
from executor_manager.streams.hub import Hub
from shared.protocol.local import MAX_MESSAGE_BYTES, SOCKETIO_PATH
from shared.redaction import Redactor
from tests.fakes.executor_client import ExecutorClient

TOKEN = "right-token"
KEY = b"0123456789abcdef0123456789abcdef0123456789A="


@dataclass
class Manager:
    """A running manager."""

    url: str
    store: Store
    hub: Hub

    @asynccontextmanager
    async def executor(
        self, executor_id: str = "executor-1", *, register: bool = True
    ) -> AsyncIterator[ExecutorClient]:
        """A connected executor, registered unless told otherwise."""
        client = ExecutorClient(executor_id)
        await client.connect(self.url, TOKEN)
        try:
            if register:
                await client.register()
            yield client
        finally:
            await client.close()

    async def submit(self, **fields: Any) -> RunRecord:
        """Put a run into the queue."""
        given: dict[str, Any] = {"user_id": "u", "request": {"prompt": "hi"}, "secrets": {}}
        return await self.store.runs.create(**given | fields)

    async def wait_for(self, run_id: str, state: str) -> RunRecord:
        """The run once it is in *state*."""
        with self.hub.follow(run_id) as wake_up:
            while True:
                await wake_up.wait()
                run = await self.store.runs.get(run_id)
                assert run is not None
                if run.state == state:
                    return run


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # signals are the test runner's


@asynccontextmanager
async def run_manager(
    directory: Path, *, call_timeout_s: float = 10, poll_s: float = 60
) -> AsyncIterator[Manager]:
    """A manager on the database in *directory*; nothing is done by polling unless told so."""
    hub = Hub()
    sio = socketio.AsyncServer(
        async_mode="asgi", transports=["websocket"], max_http_buffer_size=MAX_MESSAGE_BYTES
    )
    config = uvicorn.Config(
        socketio.ASGIApp(sio, socketio_path=SOCKETIO_PATH),
        log_config=None,
        lifespan="off",
        ws_max_size=MAX_MESSAGE_BYTES,
        ws="websockets-sansio",
    )
    server = _Server(config)
    listener = socket.create_server(("127.0.0.1", 0))
    url = f"sqlite+aiosqlite:///{directory / 'manager.db'}"
    async with Store.open(url, KEY, hub) as store:
        connections = Connections()
        namespace = LocalExecutorNamespace(
            token=TOKEN, connections=connections, messages=Messages(store, connections), hub=hub
        )
        sio.register_namespace(namespace)
        dispatcher = Dispatcher(
            store, namespace, hub.queue, Redactor(), call_timeout_s=call_timeout_s, poll_s=poll_s
        )
        async with asyncio.TaskGroup() as group:
            serving = group.create_task(server.serve([listener]))
            dispatching = group.create_task(dispatcher.run())
            await server.listening.wait()
            try:
                yield Manager(f"http://127.0.0.1:{listener.getsockname()[1]}", store, hub)
            finally:
                dispatching.cancel()
                server.should_exit = True
                await serving
