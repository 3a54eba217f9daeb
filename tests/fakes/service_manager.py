"""systemd's side of sd_notify(3): a socket that hears what a service says."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

WATCHDOG = "WATCHDOG=1"


class ServiceManagerEnd(asyncio.DatagramProtocol):
    """What a service manager hears. Made by :func:`listening`."""

    def __init__(self, address: str) -> None:
        self.address = address
        """For ``NOTIFY_SOCKET``."""
        self.heard: list[list[str]] = []
        """The lines of every message so far."""
        self._more = asyncio.Condition()
        self._news: set[asyncio.Task[None]] = set()

    def datagram_received(self, data: bytes, _address: object) -> None:
        self.heard.append(data.decode().splitlines())
        task = asyncio.get_running_loop().create_task(self._tell())
        self._news.add(task)
        task.add_done_callback(self._news.discard)

    @property
    def lines(self) -> list[str]:
        """Everything it has heard so far."""
        return [line for message in self.heard for line in message]

    async def hears(self, beginning: str, *, times: int = 1) -> str:
        """Wait for the line that is the *times*-th to begin so, of all it has ever heard."""

        def found() -> list[str]:
            return [line for line in self.lines if line.startswith(beginning)]

        async with self._more:
            await self._more.wait_for(lambda: len(found()) >= times)
        return found()[times - 1]

    def count(self, line: str) -> int:
        """How often it has heard exactly this line."""
        return self.lines.count(line)

    async def _tell(self) -> None:
        async with self._more:
            self._more.notify_all()


@asynccontextmanager
async def listening(place: Path | str) -> AsyncIterator[ServiceManagerEnd]:
    """Listen in the folder *place*, or at an abstract address when it is a name with an ``@``."""
    address = place if isinstance(place, str) else str(place / "notify")
    end = ServiceManagerEnd(address)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.bind(f"\0{address[1:]}" if address.startswith("@") else address)
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(lambda: end, sock=sock)
    try:
        yield end
    finally:
        transport.close()
