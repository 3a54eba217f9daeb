"""Two sides in one stream, in the order in which things happen."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from executor.tasks.merging import merged

LIMIT_S = 30.0


async def collected(stream: AsyncGenerator[str]) -> list[str]:
    async with asyncio.timeout(LIMIT_S):
        return [item async for item in stream]


async def test_what_others_tell_comes_while_the_items_wait_and_in_its_place() -> None:
    others: asyncio.Queue[str] = asyncio.Queue()
    gate = asyncio.Event()

    async def items() -> AsyncGenerator[str]:
        yield "first"
        await gate.wait()
        yield "last"

    stream = merged(items(), others)
    async with asyncio.timeout(LIMIT_S), aclosing(stream):
        assert await anext(stream) == "first"
        others.put_nowait("asked")
        assert await anext(stream) == "asked"
        others.put_nowait("answered")
        gate.set()
        assert await collected(stream) == ["answered", "last"]


async def test_what_comes_at_once_keeps_its_order_up_to_the_end() -> None:
    others: asyncio.Queue[str] = asyncio.Queue()

    async def items() -> AsyncGenerator[str]:
        yield "a"
        others.put_nowait("b")
        yield "c"
        others.put_nowait("d")

    assert await collected(merged(items(), others)) == ["a", "b", "c", "d"]


async def test_what_the_items_raise_is_raised_after_everything_that_came_before() -> None:
    others: asyncio.Queue[str] = asyncio.Queue()

    async def items() -> AsyncGenerator[str]:
        yield "a"
        others.put_nowait("b")
        raise RuntimeError("broken")

    stream = merged(items(), others)
    async with asyncio.timeout(LIMIT_S):
        assert [await anext(stream), await anext(stream)] == ["a", "b"]
        with pytest.raises(RuntimeError, match="broken"):
            await anext(stream)


@pytest.mark.parametrize("how", ["closed", "cancelled"])
async def test_left_early_it_has_closed_the_items_when_it_returns(how: str) -> None:
    closed = asyncio.Event()

    async def items() -> AsyncGenerator[str]:
        try:
            yield "a"
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            closed.set()

    stream = merged(items(), asyncio.Queue())
    async with asyncio.timeout(LIMIT_S):
        assert await anext(stream) == "a"
        if how == "closed":
            await stream.aclose()
        else:
            reading = asyncio.create_task(anext(stream))
            await asyncio.sleep(0)  # it has begun to wait
            reading.cancel()
            await asyncio.wait({reading})
            assert reading.cancelled()
    assert closed.is_set()
