"""An MCP server over HTTP, in both ways: the tool of :mod:`tests.fakes.mcp_server`.

It keeps the headers that came.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.fakes.mcp_server import answer


@dataclass
class McpHttpServer:
    """Serves MCP at ``url``, and over SSE at ``sse_url``."""

    url: str = ""
    sse_url: str = ""
    headers: list[Mapping[str, str]] = field(default_factory=list)
    """Of every message that came."""
    restarted: bool = False
    """Whether it has forgotten its sessions."""
    _replies: asyncio.Queue[dict[str, Any]] = field(default_factory=asyncio.Queue)

    async def handle(self, request: web.Request) -> web.Response:
        if self.restarted:
            return web.Response(status=404)
        reply = await self._reply(request)
        if reply is None:
            return web.Response(status=202)
        return web.json_response(reply, headers={"Mcp-Session-Id": "1"})

    async def stream(self, request: web.Request) -> web.StreamResponse:
        self.headers.append(request.headers)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b"event: endpoint\ndata: /messages\n\n")
        while True:
            reply = json.dumps(await self._replies.get())
            await response.write(f"event: message\ndata: {reply}\n\n".encode())

    async def take(self, request: web.Request) -> web.Response:
        if (reply := await self._reply(request)) is not None:
            self._replies.put_nowait(reply)
        return web.Response(status=202)

    async def _reply(self, request: web.Request) -> dict[str, Any] | None:
        message = await request.json()
        self.headers.append(request.headers)
        if "id" not in message:
            return None
        reply: dict[str, Any] = {"jsonrpc": "2.0", "id": message["id"]}
        result = await asyncio.to_thread(answer, message["method"], message.get("params") or {})
        if result is None:
            return reply | {"error": {"code": -32601, "message": "method not found"}}
        return reply | {"result": result}


@asynccontextmanager
async def mcp_http_server() -> AsyncIterator[McpHttpServer]:
    """Serve on a free port of loopback until the block is left."""
    server = McpHttpServer()
    app = web.Application()
    app.router.add_post("/mcp", server.handle)
    app.router.add_get("/sse", server.stream)
    app.router.add_post("/messages", server.take)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        origin = f"http://127.0.0.1:{runner.addresses[0][1]}"
        server.url, server.sse_url = f"{origin}/mcp", f"{origin}/sse"
        yield server
    finally:
        await runner.cleanup()
