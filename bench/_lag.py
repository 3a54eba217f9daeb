"""How long an event loop keeps others waiting."""

from __future__ import annotations

import asyncio
import time
from typing import NoReturn

EVERY_S = 0.002

Sample = tuple[float, float, float]
"""When it was due (``time.monotonic``, one clock for all processes), how many seconds late it
came, and the processor seconds that the process had used by then."""


async def watch_loop(samples: list[Sample]) -> NoReturn:
    """Ask the loop to wake this task again and again, and note how late it does."""
    while True:
        due = time.monotonic() + EVERY_S
        await asyncio.sleep(EVERY_S)
        samples.append((due, time.monotonic() - due, time.process_time()))


def within(samples: list[Sample], begin: float, end: float) -> list[float]:
    """Milliseconds late of the samples that were due in this time."""
    return [late * 1000 for due, late, _ in samples if begin <= due <= end]


def processor_share(samples: list[Sample], begin: float, end: float) -> float:
    """Share of one core that the process used in this time."""
    used = [(due, cpu) for due, _, cpu in samples if begin <= due <= end]
    return (used[-1][1] - used[0][1]) / (used[-1][0] - used[0][0])
