"""Wire: a TCP hop on loopback that breaks on command.

What is unrealistic: a cut reaches both ends at once, and bytes that were on their way are lost
together with the connection.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, suppress


class Wire:
    """Forwards connections on :attr:`port` to one other port. Made by :func:`open_wire`."""

    def __init__(self, target_port: int, tls: ssl.SSLContext | None = None) -> None:
        self._target_port = target_port
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._hops: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self.port = 0
        """Where to connect; stays the same across :meth:`refuse` and :meth:`listen`."""
        self.delay_s = 0.0
        """How long every piece of data is held back, in each direction."""
        self.accepted = 0
        """Connections taken so far."""
        self.taken = asyncio.Event()
        """Set when there has been a connection."""

    @property
    def connections(self) -> int:
        """Connections that are open now."""
        return len(self._hops)

    async def listen(self) -> None:
        """Accept connections (again)."""
        self._server = await asyncio.start_server(
            self._accept, "127.0.0.1", self.port, ssl=self._tls
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def refuse(self) -> None:
        """Refuse new connections; those there are stay."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def cut(self) -> None:
        """Abort every connection, like a lost network whose ends both learn of it."""
        for writer in list(self._writers):
            writer.transport.abort()

    def freeze(self) -> None:
        """Deliver nothing more, in either direction, while connections stay open (half-open)."""
        self._flowing.clear()

    def thaw(self) -> None:
        """Deliver again, beginning with what was held back."""
        self._flowing.set()

    async def close(self) -> None:
        """End everything."""
        await self.refuse()
        for hop in list(self._hops):
            hop.cancel()
        self.cut()
        await asyncio.gather(*self._hops, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        self.taken.set()
        hop = asyncio.current_task()
        assert hop is not None
        self._hops.add(hop)
        self._writers.add(writer)
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
        except OSError:
            writer.transport.abort()
            self._writers.discard(writer)
            self._hops.discard(hop)
            return
        self._writers.add(far_writer)
        directions = [
            asyncio.create_task(self._copy(reader, far_writer)),
            asyncio.create_task(self._copy(far_reader, writer)),
        ]
        try:
            await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for direction in directions:
                direction.cancel()
            for end in (writer, far_writer):
                end.transport.abort()
                self._writers.discard(end)
            self._hops.discard(hop)

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                await self._flowing.wait()
                writer.write(data)
                await writer.drain()


@asynccontextmanager
async def open_wire(target_port: int, tls: ssl.SSLContext | None = None) -> AsyncIterator[Wire]:
    """A wire to *target_port* on loopback, closed at the end; speaks TLS to callers if asked to."""
    wire = Wire(target_port, tls)
    await wire.listen()
    try:
        yield wire
    finally:
        await wire.close()


@asynccontextmanager
async def black_hole(port: int) -> AsyncIterator[None]:
    """An address of IPv6 that answers no attempt to connect: its queue of them is full."""
    with socket.socket(socket.AF_INET6) as listening, ExitStack() as stack:
        listening.bind(("::1", port))
        listening.listen(0)
        loop = asyncio.get_running_loop()
        for _ in range(2):
            waiting = stack.enter_context(socket.socket(socket.AF_INET6))
            waiting.setblocking(False)
            connecting = loop.create_task(loop.sock_connect(waiting, ("::1", port)))
            stack.callback(connecting.cancel)
            await asyncio.wait({connecting}, timeout=0.1)
        yield
