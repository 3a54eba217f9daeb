"""Work that outlives the cancellation of whoever asked for it: cleanup, and threads.

Cancellations that arrive meanwhile are raised when the work has ended, never swallowed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

T = TypeVar("T")
P = ParamSpec("P")


async def finish(
    work: asyncio.Task[T] | Coroutine[Any, Any, T], *, within_s: float | None = None
) -> T:
    """The result of *work*, which goes on to its end even while the caller is cancelled.

    Several may wait for one task.

    Args:
        within_s: Seconds after which *work* is cancelled; ``None`` when it bounds itself, since
            nobody can end it from outside.

    Raises:
        TimeoutError: *work* overran.
    """
    if within_s is not None:
        work = _bounded(work, within_s)
    task = work if isinstance(work, asyncio.Task) else asyncio.create_task(work)
    cancellation = await _ended(task)
    if cancellation is not None:
        raise cancellation from (None if task.cancelled() else task.exception())
    return task.result()


async def in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Like ``asyncio.to_thread``, but when this has ended the thread's work has, too.

    For work whose result or side effect must be undone when the caller is cancelled.
    """
    return await finish(asyncio.to_thread(function, *args, **kwargs))


async def stop(task: asyncio.Task[Any]) -> None:
    """Cancel *task*, unless it is done, and wait for its end; what it raises matters to nobody."""
    task.cancel()
    cancellation = await _ended(task)
    if not task.cancelled():
        task.exception()  # looked at: asyncio need not complain
    if cancellation is not None:
        raise cancellation


async def _bounded(work: asyncio.Task[T] | Coroutine[Any, Any, T], within_s: float) -> T:
    async with asyncio.timeout(within_s):
        return await work


async def _ended(task: asyncio.Task[Any]) -> asyncio.CancelledError | None:
    """Wait for the end of *task*; the last cancellation of the caller meanwhile, if any."""
    cancellation: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})  # unlike `await task`, leaves it alone when cancelled
        except asyncio.CancelledError as exc:
            cancellation = exc
    return cancellation
