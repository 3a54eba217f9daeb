"""SIGINT and SIGTERM: the first asks for a graceful stop, the second ends at once."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Final

from executor.early_signals import SIGNALS
from executor.packaged.frozen import unpacked_folder

ECHO_S: Final = 0.5
"""A single file hears a Ctrl-C twice: its terminal tells the loader and the program, and the loader
hands on what it hears. A second signal that comes so soon is taken for the first."""


class StopSignals:
    """The two signals as events.

    Attributes:
        first: Somebody asked for a stop: take nothing new, let runs finish, leave.
        second: Somebody asked again: leave now.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self.first = asyncio.Event()
        self.second = asyncio.Event()
        self._echo_s = 0.0 if unpacked_folder() is None else ECHO_S
        self._first_at_s = 0.0
        self._now = now

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
        if not self.first.is_set():
            self._first_at_s = self._now()
            self.first.set()
        elif self._now() - self._first_at_s >= self._echo_s:
            self.second.set()

    def _from_any_point(self, _number: int, _frame: FrameType | None) -> None:
        # Between two bytecodes of whatever runs: only the loop may set events.
        with suppress(RuntimeError):  # it is closed
            self._loop.call_soon_threadsafe(self.request)
