"""One stream of what comes from two sides."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TypeVar

from shared.shielding import stop

T = TypeVar("T")


async def merged(items: AsyncGenerator[T], others: asyncio.Queue[T]) -> AsyncGenerator[T]:
    """Yield *items*, and what others put into the queue meanwhile, in the order of their coming.

    Ends with *items*, after everything that had come by then, and raises what they raise. They are
    closed when this is. They go on whether or not somebody reads here: for sources that wait by
    themselves.
    """
    ended = object()
    both: asyncio.Queue[T | object] = others  # type: ignore[assignment] # the mark stays in here

    async def pass_on() -> None:
        async with aclosing(items):
            async for item in items:
                both.put_nowait(item)

    passing = asyncio.create_task(pass_on(), name="merge")
    passing.add_done_callback(lambda _: both.put_nowait(ended))
    try:
        while (item := await both.get()) is not ended:
            yield item  # type: ignore[misc] # everything but the mark
        await passing
    finally:
        await stop(passing)
