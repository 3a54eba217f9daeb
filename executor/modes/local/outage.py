"""How long to wait before connecting again, and how often to say so."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from typing import Final

from shared.logging import get_logger

logger = get_logger("local_runner")

STEADY_FOR_S: Final = 5.0
"""For so long an outage is taken for a restart of the backend: tries stay frequent."""

SAY_SO_FIRST: Final = 3
"""Failures of one outage that are logged one by one."""

SAY_SO_EVERY_S: Final = 60.0
"""How often an outage is mentioned after that, unless its cause changes."""

Delays = Callable[[], Iterator[float]]
"""Pauses before each attempt of one outage, in seconds; a new iterator for every outage."""


def reconnect_delays(
    first_s: float, max_s: float, *, clock: Callable[[], float] = time.monotonic
) -> Iterator[float]:
    """Full jitter over *first_s*; after 5 s of outage over a span that doubles up to *max_s*.

    The outage begins when the first pause is asked for.
    """
    began = clock()
    span = first_s
    while True:
        yield random.uniform(0, span)
        if clock() - began >= STEADY_FOR_S:
            span = min(2 * span, max_s)


class OutageLog:
    """Says that the backend cannot be reached: at once, at every change, and now and then."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.over()

    def over(self) -> None:
        """Forget the outage: the next failure begins a new one."""
        self._began: float | None = None
        self._failures = 0
        self._said_at = 0.0
        self._cause = ""

    def lost(self, cause: str, next_try_s: float) -> None:
        """A connection that worked is gone: a new outage begins."""
        self.over()
        self._began = self._clock()
        logger.warning(
            "lost the connection to the backend: %s; next try in %.1f s", cause, next_try_s
        )

    def failed(self, cause: str, next_try_s: float) -> None:
        """Take note of a failed attempt, and log it if it says something new."""
        now = self._clock()
        if self._began is None:
            self._began = now
        self._failures += 1
        quiet = self._failures > SAY_SO_FIRST and cause == self._cause
        if quiet and now - self._said_at < SAY_SO_EVERY_S:
            return
        self._said_at, self._cause = now, cause
        text = f"Failed to connect to Backend WebSocket: {cause}; next try in {next_try_s:.1f} s"
        if self._failures > 1:
            text += f" (attempt {self._failures}, disconnected for {now - self._began:.0f} s)"
        logger.warning(text)
