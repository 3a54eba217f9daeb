"""A client of an engine that is none: whatever it is asked, a test answers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web

from shared.containers.engine import Engine


@asynccontextmanager
async def engine_that(
    says: Callable[[web.Request], Awaitable[web.StreamResponse]], folder: Path
) -> AsyncIterator[Engine]:
    """Its socket lies in *folder*."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", says)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.UnixSite(runner, str(folder / "sock")).start()
        async with Engine({"DOCKER_HOST": f"unix://{folder}/sock"}) as engine:
            yield engine
    finally:
        await runner.cleanup()
