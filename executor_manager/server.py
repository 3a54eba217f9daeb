"""The listening socket, and uvicorn as this program needs it."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

import uvicorn

from executor_manager.app import Manager
from shared.errors import WegentError
from shared.protocol.local import MAX_MESSAGE_BYTES

STOP_GRACE_SECONDS: Final = 1
"""How long answers under way may take at a stop; streams end at once by themselves."""


class CannotListen(WegentError):
    """The address cannot be had."""

    code = "cannot_listen"


def bind(host: str, port: int) -> socket.socket:
    """A socket that listens on *port* of *host*; the caller closes it. Blocks: it may ask DNS.

    Raises:
        CannotListen: Says which setting to change.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as exc:
        raise CannotListen(
            f"MANAGER_HOST: the name or address is not usable: {exc.strerror}",
            hint="127.0.0.1 serves this machine only, 0.0.0.0 every network",
        ) from None
    try:
        if os.name == "posix":  # elsewhere it would let two programs share the port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(socket.SOMAXCONN)
    except OSError as exc:
        listener.close()
        if exc.errno == errno.EADDRINUSE:
            raise CannotListen(
                f"MANAGER_PORT: port {port} is in use by another program",
                hint="stop it, or set MANAGER_PORT to a free port",
            ) from None
        raise CannotListen(
            f"cannot listen on port {port}: {exc.strerror}",
            hint="check MANAGER_HOST and MANAGER_PORT",
        ) from None
    return listener


def url_of(listener: socket.socket) -> str:
    """Where a program on this machine reaches *listener*."""
    host, port = listener.getsockname()[:2]
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared only
    return f"http://[{reachable}]:{port}" if ":" in reachable else f"http://{reachable}:{port}"


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
