"""A server for the files that requests bring by address."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from aiohttp import web


@dataclass
class FileServer:
    """Serves ``/files/{name}``, and records the Authorization header of every request."""

    url: str = ""
    authorizations: list[str | None] = field(default_factory=list)
    requested: asyncio.Event = field(default_factory=asyncio.Event)
    redirect_to: str = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.authorizations.append(request.headers.get("Authorization"))
        self.requested.set()
        match request.match_info["name"]:
            case "hang":
                await asyncio.Event().wait()
            case "missing":
                return web.Response(status=404)
            case "redirect":
                return web.Response(status=302, headers={"Location": self.redirect_to})
            case "cut":
                response = web.StreamResponse(headers={"Content-Length": "1000"})
                await response.prepare(request)
                await response.write(b"x" * 10)
                assert request.transport is not None
                request.transport.close()
                return response
            case _:
                pass
        return web.Response(body=b"x" * 1000)


async def serve() -> AsyncIterator[FileServer]:
    server = FileServer()
    app = web.Application()
    app.router.add_get("/files/{name}", server.handle)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield server
    await runner.cleanup()
