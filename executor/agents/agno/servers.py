"""The MCP servers of a session: connections that live as long as it does.

Each is held by a task of its own, since what the MCP library opens in one task it must close in the
same.
"""

from __future__ import annotations

import asyncio
import os
import re
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import httpcore2  # noqa: F401 - httpx2 would import it with its first client, on the event loop
import httpx2
from mcp import ClientSession, StdioServerParameters
from mcp.client.sse import sse_client
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from mcp.types import CONNECTION_CLOSED, CallToolResult, PaginatedRequestParams, Tool

from shared.logging import get_logger
from shared.shielding import stop

logger = get_logger("agno_agent")

START_TIMEOUT_S: Final = 60.0
"""From a server's start to its list of tools; those that are installed first take that long."""

END_TIMEOUT_S: Final = 8.0
"""The library gives a program 2 s each to end by itself, after SIGTERM and after SIGKILL."""

MAX_PAGES: Final = 100
"""Of a server's list of tools; one that never ends is no list."""

_HTTP: Final = httpx2.Timeout(30, read=300)

_SESSION_GONE: Final = re.compile(r"session (terminated|not found)", re.IGNORECASE)
"""What the library says, or a server itself, when the server has been restarted."""

_PROGRAM: Final = "stdio"
_OVER_HTTP: Final = ("http", "streamable-http", "streamable_http", "streamablehttp")


def is_program(server: Mapping[str, Any]) -> bool:
    """Whether *server*, as Claude Code configures it, is started here."""
    return _kind(server) == _PROGRAM


class ToolServer:
    """One MCP server; closed by :meth:`close`, whether or not it was ever reached."""

    def __init__(
        self,
        name: str,
        server: Mapping[str, Any],
        *,
        env: Mapping[str, str],
        cwd: Path,
        trusted: ssl.SSLContext,
    ) -> None:
        """Nothing is started yet.

        Args:
            server: As Claude Code configures it.
            env: What a server that is a program gets besides its own variables.
            cwd: Where it is started.
            trusted: Whom connections to another machine trust.
        """
        self.name = name
        self._server = server
        self._env = env
        self._cwd = cwd
        self._trusted = trusted
        self._connected = asyncio.Event()
        self._stop = asyncio.Event()
        self._keeping: asyncio.Task[None] | None = None
        self._session: ClientSession | None = None
        self.tools: list[Tool] = []
        self.problem: str | None = None
        """Why it cannot be used; ``None``: it can."""

    @property
    def alive(self) -> bool:
        """Whether it has answered, and is connected still."""
        return self._session is not None

    async def start(self) -> None:
        """Connect and read the list of tools; what fails is in :attr:`problem`."""
        self._keeping = asyncio.create_task(self._keep(), name=f"mcp {self.name}")
        waiting = asyncio.create_task(self._connected.wait())
        try:
            done, _ = await asyncio.wait(
                {waiting, self._keeping},
                timeout=START_TIMEOUT_S,
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            waiting.cancel()
        if not done:
            self.problem = f"it did not answer within {START_TIMEOUT_S:.0f} s"
            await self.close()

    async def call(self, tool: str, arguments: dict[str, Any]) -> CallToolResult:
        """Use one of its tools.

        Raises:
            ConnectionError: It is gone.
            Exception: Whatever the library raises for a refusal of the server.
        """
        if self._session is None:
            raise ConnectionError(f"the MCP server {self.name} is not connected any more")
        try:
            return await self._session.call_tool(tool, arguments)
        except asyncio.CancelledError:
            # What it was asked to do may go on: only with the server it certainly ends.
            self._leave()
            raise
        except MCPError as exc:
            if exc.code == CONNECTION_CLOSED or _SESSION_GONE.search(exc.message):
                self._leave()
            raise

    def _leave(self) -> None:
        self._session = None
        self._stop.set()

    async def close(self) -> None:
        """Disconnect, and end it when it is a program; bounded in time."""
        if self._keeping is None:
            return
        self._stop.set()
        if self._connected.is_set():  # before that nothing looks at it
            await asyncio.wait({self._keeping}, timeout=END_TIMEOUT_S)
        await stop(self._keeping)

    async def _keep(self) -> None:
        try:
            async with AsyncExitStack() as stack:
                read, write = await stack.enter_async_context(self._transport())
                session = await stack.enter_async_context(ClientSession(read, write))
                await session.initialize()
                self.tools = await _tools(session)
                self._session = session
                self._connected.set()
                await self._stop.wait()
        except Exception as exc:  # noqa: BLE001 - groups of anything: whatever a server can do
            self.problem = _words(exc)
            logger.info("an MCP server failed", server=self.name, error=self.problem)
        finally:
            self._session = None

    @asynccontextmanager
    async def _transport(self) -> AsyncIterator[tuple[Any, Any]]:
        server = self._server
        url, headers = str(server.get("url") or ""), _texts(server.get("headers"))
        kind = _kind(server)
        if kind == "sse":
            async with sse_client(
                url, headers=headers, httpx_client_factory=self._client
            ) as streams:
                yield streams
        elif kind in _OVER_HTTP:
            async with (
                self._client(headers) as client,
                streamable_http_client(url, http_client=client) as streams,
            ):
                yield streams
        elif kind == _PROGRAM:
            program = StdioServerParameters(
                command=str(server.get("command") or ""),
                args=[str(argument) for argument in server.get("args") or ()],
                env={**self._env, **_texts(server.get("env"))},
                cwd=self._cwd,
            )
            with await asyncio.to_thread(open, os.devnull, "w", encoding="utf-8") as nowhere:
                async with stdio_client(program, errlog=nowhere) as streams:
                    yield streams
        else:
            raise ValueError("its type is none of stdio, http and sse")

    def _client(
        self,
        headers: dict[str, str] | None = None,
        timeout: httpx2.Timeout | None = None,
        auth: httpx2.Auth | None = None,
    ) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(
            headers=headers, timeout=timeout or _HTTP, auth=auth, verify=self._trusted
        )


def _kind(server: Mapping[str, Any]) -> str:
    return str(server.get("type") or ("http" if server.get("url") else _PROGRAM)).lower()


async def _tools(session: ClientSession) -> list[Tool]:
    found: list[Tool] = []
    cursor: str | None = None
    for _ in range(MAX_PAGES):
        params = PaginatedRequestParams(cursor=cursor) if cursor else None
        page = await session.list_tools(params=params)
        found += page.tools
        cursor = page.next_cursor
        if not cursor:
            break
    return found


def _texts(given: Any) -> dict[str, str]:
    return {str(name): str(value) for name, value in given.items()} if given else {}


def _words(exc: BaseException) -> str:
    while isinstance(exc, BaseExceptionGroup):
        exc = exc.exceptions[0]
    if isinstance(exc, FileNotFoundError):
        return "there is no such program"
    return f"{type(exc).__name__}: {exc}" if str(exc) else type(exc).__name__
