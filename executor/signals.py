"""SIGINT and SIGTERM: the first asks for a graceful stop, the second ends at once."""

from __future__ import annotations

import asyncio
import signal
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any, Final, Self

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


class StopSignals:
    """While entered, the two signals set events instead of killing the process.

    To be made and entered inside the event loop, in the main thread.

    Attributes:
        first: Somebody asked for a stop: take nothing new, let runs finish, leave.
        second: Somebody asked again: leave now.
    """

    def __init__(self) -> None:
        self.first = asyncio.Event()
        self.second = asyncio.Event()
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        for number in SIGNALS:
            self._previous[number] = signal.getsignal(number)
            try:
                self._loop.add_signal_handler(number, self.request)
            except NotImplementedError:  # Windows
                signal.signal(number, self._from_any_point)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, previous in self._previous.items():
            with suppress(NotImplementedError):  # Windows
                self._loop.remove_signal_handler(number)
            signal.signal(number, previous)

    def request(self) -> None:
        """Do what a signal does: ask for a stop, and the second time for an end."""
        (self.second if self.first.is_set() else self.first).set()

    def _from_any_point(self, _number: int, _frame: FrameType | None) -> None:
        # Between two bytecodes of whatever runs: only the loop may set events.
        self._loop.call_soon_threadsafe(self.request)
