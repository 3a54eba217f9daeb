"""What every use of the database relies on."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from tests.fakes.store_bench import Bench


async def test_a_write_that_is_cancelled_at_any_point_blocks_none_and_leaves_nothing(
    bench: Bench,
) -> None:
    made, steps, done = 0, 0, False
    while not done:
        creating = asyncio.create_task(bench.queued())
        for _ in range(steps):
            await asyncio.sleep(0)
        done = creating.done()
        while not creating.done():  # again and again, as servers do when a reader leaves
            creating.cancel()
            await asyncio.sleep(0)
        with suppress(asyncio.CancelledError):
            await creating
        await bench.queued()  # behind a writer that does not end it would fail
        made += 1
        steps += 1
    closing = [task for task in asyncio.all_tasks() if "terminate" in repr(task.get_coro())]
    for task in closing:
        await asyncio.wait([task], timeout=10)
        assert task.done()  # otherwise the log tells of tasks that were destroyed
    counts = await bench.store.runs.counts()
    assert made <= sum(counts.values()) <= 2 * made
