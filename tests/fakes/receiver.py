"""A receiver of callbacks and of questions on loopback, which answers as a test says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web


@dataclass(frozen=True)
class Request:
    """What has come."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any


Answer = web.StreamResponse | int
"""A response, or a status."""


@dataclass
class Receiver:
    """Keeps what has come, in order; *answer* may be exchanged at any time, and hang."""

    port: int = 0
    requests: list[Request] = field(default_factory=list)
    answer: Callable[[Request], Answer | Awaitable[Answer]] = lambda _: 200
    _more: asyncio.Condition = field(default_factory=asyncio.Condition)
    _runner: web.AppRunner | None = None
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def callbacks(self) -> list[tuple[int, str]]:
        """Sequence and event of what has come to ``/callback``."""
        return [
            (request.body["sequence"], request.body["event"])
            for request in self.requests
            if request.path == "/callback"
        ]

    async def start(self) -> None:
        """Listen, on the same port as before when it has listened before."""
        self._stopping.clear()
        app = web.Application(client_max_size=2**26)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Be gone: connections are refused from now on."""
        self._stopping.set()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def hang(self, _: Request) -> int:
        """An answer that does not come before the end."""
        await self._stopping.wait()
        return 503

    async def wait_for(self, met: Callable[[], bool], timeout_s: float = 10) -> None:
        """Wait until what has come meets a condition."""
        async with asyncio.timeout(timeout_s), self._more:
            await self._more.wait_for(met)

    async def wait_for_count(self, count: int) -> None:
        """Wait until so many requests have come."""
        await self.wait_for(lambda: len(self.requests) >= count)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        got = Request(
            request.method,
            request.raw_path,
            dict(request.headers),
            json.loads(raw) if raw else None,
        )
        async with self._more:
            self.requests.append(got)
            self._more.notify_all()
        answer = self.answer(got)
        if isinstance(answer, Awaitable):
            answer = await answer
        return web.Response(status=answer) if isinstance(answer, int) else answer


@asynccontextmanager
async def open_receiver() -> AsyncIterator[Receiver]:
    """Listen until the block is left."""
    receiver = Receiver()
    await receiver.start()
    try:
        yield receiver
    finally:
        await receiver.stop()
