"""Wake-ups inside this process: that something has changed, never what.

A follower reads the log from where it is, waits to be woken, and reads again. So no event is kept
twice, none is lost or split between followers, and a slow follower costs nothing.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager


class WakeUp:
    """Tells one follower that there is something new; several changes count as one."""

    def __init__(self) -> None:
        # Set from the start: what happened before the first wait is new too.
        self._event = asyncio.Event()
        self._event.set()

    def set(self) -> None:
        """Wake the follower, or let its next wait return at once."""
        self._event.set()

    async def wait(self) -> None:
        """Return once something changed since the last return. Read the log after it."""
        await self._event.wait()
        self._event.clear()


class Hub:
    """Passes the changes of runs on to those who follow them."""

    def __init__(self) -> None:
        self._runs: dict[str, set[WakeUp]] = defaultdict(set)

    def run_changed(self, run_id: str) -> None:
        """Wake everyone who follows this run."""
        for follower in self._runs.get(run_id, ()):
            follower.set()

    @contextmanager
    def follow(self, run_id: str) -> Iterator[WakeUp]:
        """Wake-ups for one run; the first wait returns at once."""
        follower = WakeUp()
        self._runs[run_id].add(follower)
        try:
            yield follower
        finally:
            self._runs[run_id].discard(follower)
            if not self._runs[run_id]:
                del self._runs[run_id]
