"""Work that outlives its own cancellation: cleanup, and threads that hold something."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

T = TypeVar("T")
P = ParamSpec("P")


async def finish(cleanup: Coroutine[Any, Any, None], *, within_s: float) -> None:
    """Run *cleanup* to its end, up to *within_s* seconds, even while being cancelled.

    Cancellations that arrive meanwhile are raised after the cleanup, never swallowed.

    Raises:
        TimeoutError: *cleanup* overran and was cancelled.
    """
    await _to_its_end(asyncio.create_task(asyncio.wait_for(cleanup, within_s)))


async def in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Like ``asyncio.to_thread``, but when this has ended the thread's work has, too.

    For work whose result or side effect must be undone when the caller is cancelled.
    """
    return await _to_its_end(asyncio.create_task(asyncio.to_thread(function, *args, **kwargs)))


async def _to_its_end(task: asyncio.Task[T]) -> T:
    cancellation: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})  # unlike `await task`, leaves it alone when cancelled
        except asyncio.CancelledError as exc:
            cancellation = exc
    if cancellation is not None:
        raise cancellation from task.exception()
    return task.result()
