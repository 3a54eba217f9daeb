"""SIGINT and SIGTERM: the first asks for a graceful stop, the second ends at once."""

from __future__ import annotations

import asyncio
import signal
from contextlib import suppress
from types import FrameType

from executor.early_signals import SIGNALS


class StopSignals:
    """The two signals as events.

    Attributes:
        first: Somebody asked for a stop: take nothing new, let runs finish, leave.
        second: Somebody asked again: leave now.
    """

    def __init__(self) -> None:
        self.first = asyncio.Event()
        self.second = asyncio.Event()

    def listen(self) -> None:
        """Have signals set the events, for as long as the running loop is not closed.

        To be called in the main thread.
        """
        self._loop = asyncio.get_running_loop()
        for number in SIGNALS:
            try:
                self._loop.add_signal_handler(number, self.request)
            except NotImplementedError:  # Windows
                signal.signal(number, self._from_any_point)

    def request(self) -> None:
        """Do what a signal does: ask for a stop, and the second time for an end."""
        (self.second if self.first.is_set() else self.first).set()

    def _from_any_point(self, _number: int, _frame: FrameType | None) -> None:
        # Between two bytecodes of whatever runs: only the loop may set events.
        with suppress(RuntimeError):  # it is closed
            self._loop.call_soon_threadsafe(self.request)
