"""uvicorn as both programs need it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Final

import uvicorn
from starlette.types import ASGIApp

from shared.web.streams import Streams

STOP_GRACE_SECONDS: Final = 1
"""How long answers under way may take at a stop; streams end at once by themselves."""


class Server(uvicorn.Server):
    """Serves an application until :meth:`stop`; signals are the caller's business.

    Attributes:
        listening: Set when requests are answered.
    """

    def __init__(self, app: ASGIApp, streams: Streams, **options: Any) -> None:
        """Take what to serve.

        Args:
            app: Opened before, and closed after the server: it gets no lifespan events.
            streams: Closed at a stop.
            options: More of :class:`uvicorn.Config`.
        """
        super().__init__(
            uvicorn.Config(
                app,
                http="h11",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=STOP_GRACE_SECONDS,
                **options,
            )
        )
        self._streams = streams
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
        self._streams.close()
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield
