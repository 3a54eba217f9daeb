"""The connection to one MCP server: how it ends."""

from __future__ import annotations

import asyncio
import os
import ssl
import sys
from pathlib import Path

import pytest

from executor.agents.agno.servers import ToolServer


async def test_a_server_that_does_not_answer_does_not_delay_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Were it given time to end by itself, the test would take that long.
    monkeypatch.setattr("executor.agents.agno.servers.END_TIMEOUT_S", 1e6)
    fifo = tmp_path / "started"
    os.mkfifo(fifo)
    silent = f"open({str(fifo)!r}, 'w').close(); import sys; sys.stdin.read()"
    server = ToolServer(
        "silent",
        {"command": sys.executable, "args": ["-c", silent]},
        env={},
        cwd=tmp_path,
        trusted=ssl.create_default_context(),
    )
    async with asyncio.timeout(30):
        starting = asyncio.create_task(server.start())
        with await asyncio.to_thread(fifo.open):  # opened by both: it runs
            pass
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        await server.close()

    assert not server.alive
