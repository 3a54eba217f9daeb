"""Cleanup that outlives the cancellation of whoever asked for it."""

from __future__ import annotations

import asyncio


async def finish(cleanup: asyncio.Task[None]) -> None:
    """Wait until *cleanup* has ended, even while being cancelled.

    Cancellations that arrive meanwhile are raised after the cleanup, never swallowed. Several may
    wait for one cleanup. It must bound itself: nobody can end it from outside.
    """
    cancellation: asyncio.CancelledError | None = None
    while not cleanup.done():
        try:
            await asyncio.wait({cleanup})  # unlike `await cleanup`, leaves it alone when cancelled
        except asyncio.CancelledError as exc:
            cancellation = exc
    if cancellation is not None:
        raise cancellation from (None if cleanup.cancelled() else cleanup.exception())
    cleanup.result()
