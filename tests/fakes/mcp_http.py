"""An MCP server over HTTP: the tool of :mod:`tests.fakes.mcp_server`, and the headers that came."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

from tests.fakes.mcp_server import answer


@dataclass
class McpHttpServer:
    """Serves MCP at ``url``."""

    url: str = ""
    headers: list[Mapping[str, str]] = field(default_factory=list)
    """Of every message that came."""

    async def handle(self, request: web.Request) -> web.Response:
        message = await request.json()
        self.headers.append(request.headers)
        if "id" not in message:
            return web.Response(status=202)
        result = await asyncio.to_thread(answer, message["method"], message.get("params") or {})
        if result is None:
            error = {"code": -32601, "message": "method not found"}
            return web.json_response({"jsonrpc": "2.0", "id": message["id"], "error": error})
        return web.json_response({"jsonrpc": "2.0", "id": message["id"], "result": result})


@asynccontextmanager
async def mcp_http_server() -> AsyncIterator[McpHttpServer]:
    """Serve on a free port of loopback until the block is left."""
    server = McpHttpServer()
    app = web.Application()
    app.router.add_post("/mcp", server.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        server.url = f"http://127.0.0.1:{runner.addresses[0][1]}/mcp"
        yield server
    finally:
        await runner.cleanup()
