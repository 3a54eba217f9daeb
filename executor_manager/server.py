"""uvicorn as the manager needs it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

import uvicorn

from executor_manager.app import Manager
from shared.protocol.local import MAX_MESSAGE_BYTES

STOP_GRACE_SECONDS: Final = 1
"""How long answers under way may take at a stop; streams end at once by themselves."""


class ManagerServer(uvicorn.Server):
    """Serves a manager until :meth:`stop`; signals are the caller's business.

    Attributes:
        listening: Set when requests are answered.
    """

    def __init__(self, manager: Manager) -> None:
        super().__init__(
            uvicorn.Config(
                manager.asgi,
                http="h11",
                ws="websockets-sansio",
                ws_max_size=MAX_MESSAGE_BYTES,
                ws_ping_interval=None,  # Engine.IO has pings of its own
                ws_per_message_deflate=False,  # many small messages: costs more than it saves
                lifespan="off",  # the manager is opened before, and closed after the server
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=STOP_GRACE_SECONDS,
            )
        )
        self._manager = manager
        self.listening = asyncio.Event()

    def stop(self) -> None:
        """End serving soon; a second call ends it without any grace."""
        self.force_exit = self.should_exit
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # Before the server waits for open connections: a stream would keep it waiting.
        self._manager.streams.close()
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield
