"""A company's HTTP proxy, which alone knows the way to other machines."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

LOGIN: Final = "DOMAIN\\ada:pä:ß/@w"
"""A login that an address cannot hold as it is, and that Latin-1 would send as other bytes."""
ENCODED: Final = "DOMAIN%5Cada:p%C3%A4:%C3%9F%2F%40w"


@dataclass
class HttpProxy:
    """Tunnels and forwards to this machine, whatever the host's name. Made by :func:`open_proxy`.

    Attributes:
        login: ``user:password`` that it wants; ``None``: it lets everybody pass.
        way: How it says it wants to be told that.
        host: Where it listens.
        refuses: An HTTP status with which it answers everything; ``None``: it works.
    """

    login: str | None = None
    way: str = 'Basic realm="a company"'
    refuses: int | None = None
    host: str = "127.0.0.1"
    port: int = 0
    seen: list[str] = field(default_factory=list)
    """``METHOD target`` of every request that it has carried out."""
    turned_away: list[str] = field(default_factory=list)
    """The same for those it has not."""

    def url(self, login: str | None = None) -> str:
        """Its address; *login* as it has to be written in there."""
        return f"http://{f'{login}@' if login else ''}{self.host}:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(OSError, EOFError):
                await self._serve(reader, writer)
        finally:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            first, *lines = head.removesuffix("\r\n\r\n").split("\r\n")
            method, target, _ = first.split()
            parted = (line.partition(":") for line in lines)
            headers = {name.lower(): value.strip() for name, _, value in parted}
            if (answer := self._refusal(headers)) is None:
                break
            self.turned_away.append(f"{method} {target}")
            writer.write(f"HTTP/1.1 {answer}\r\nContent-Length: 0\r\n\r\n".encode())
            await writer.drain()
        self.seen.append(f"{method} {target}")
        authority = target if method == "CONNECT" else target.split("/")[2]
        port = int(authority.rpartition(":")[2])
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            if method == "CONNECT":
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            else:
                path = "/" + target.split("/", 3)[3]
                far_writer.write(_forwarded(method, path, lines).encode("latin-1"))
            async with asyncio.TaskGroup() as group:
                group.create_task(_copy(reader, far_writer))
                group.create_task(_copy(far_reader, writer))
        finally:
            far_writer.transport.abort()

    def _refusal(self, headers: dict[str, str]) -> str | None:
        if self.refuses is not None:
            return f"{self.refuses} No"
        if self.login is None:
            return None
        wanted = "Basic " + base64.b64encode(self.login.encode()).decode()
        if headers.get("proxy-authorization") == wanted:
            return None
        return f"407 Who are you\r\nProxy-Authenticate: {self.way}"


def _forwarded(method: str, path: str, lines: list[str]) -> str:
    """A request as the server gets it; the only one of its connection."""
    upgrades = any(line.lower().startswith("upgrade:") for line in lines)
    dropped = ("proxy-",) if upgrades else ("proxy-", "connection:")
    kept = [line for line in lines if not line.lower().startswith(dropped)]
    closing = [] if upgrades else ["Connection: close"]
    return "\r\n".join([f"{method} {path} HTTP/1.1", *kept, *closing, "", ""])


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.write_eof()


@asynccontextmanager
async def open_proxy(proxy: HttpProxy | None = None) -> AsyncIterator[HttpProxy]:
    """Run *proxy* (one that asks nobody when ``None``) until the end."""
    proxy = proxy or HttpProxy()
    connections: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(proxy.serve(reader, writer))
        connections.add(task)
        task.add_done_callback(connections.discard)

    server = await asyncio.start_server(accept, proxy.host, 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        for task in list(connections):
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
