"""The time that one run may take, counted over all processes that carry it out.

It passes while the run is carried out, whatever that waits for, and at no other time: a run that
waits for a place, for an executor that is away, or to be dispatched again uses none. The limit is
there for an agent that does not come to an end, and no agent works then; otherwise every run that
a machine is switched off under would have failed by the morning.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

SAVED_EVERY_S: Final = 5.0
"""How often the used time is written down; more often for limits of less than 100 s."""

_SAVES: Final = 20
"""So often within a shorter limit, but no more often than :data:`_LEAST_S` says."""

_LEAST_S: Final = 0.25
"""Whoever asks for a limit of a millisecond does not have the disk written without a pause."""


class RunTime:
    """Begins with :meth:`start`. For one event loop."""

    def __init__(
        self,
        limit_s: float | None,
        *,
        used_s: float,
        save: Callable[[float], None],
        over: Callable[[], None],
    ) -> None:
        """Nothing passes yet.

        Args:
            limit_s: How long the run may take in all; ``None``: somebody else bounds it.
            used_s: What earlier processes have used of that.
            save: Keeps the used time for a later process, in seconds. It is told ahead, for what
                passes until the next time, so that a kill rounds up: a run that is killed often
                enough comes to its end as well.
            over: Called once, when the time is over.
        """
        self._limit_s = limit_s
        self._used_s = used_s
        self._save = save
        self._over = over
        within_s = SAVED_EVERY_S if limit_s is None else limit_s / _SAVES
        self._every_s = max(_LEAST_S, min(SAVED_EVERY_S, within_s))
        self._began = 0.0
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def start(self) -> None:
        """Let the time pass from now on."""
        loop = asyncio.get_running_loop()
        self._began = loop.time()
        if self._limit_s is not None:
            left_s = max(0.0, self._limit_s - self._used_s)
            self._timers["over"] = loop.call_later(left_s, self._over)
        self._save_ahead()

    def stop(self) -> None:
        """Nothing passes any more."""
        for timer in self._timers.values():
            timer.cancel()
        self._save(self._now_used_s())

    def _save_ahead(self) -> None:
        self._save(self._now_used_s() + self._every_s)
        loop = asyncio.get_running_loop()
        self._timers["save"] = loop.call_later(self._every_s, self._save_ahead)

    def _now_used_s(self) -> float:
        return self._used_s + asyncio.get_running_loop().time() - self._began
