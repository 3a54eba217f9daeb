"""SIGINT and SIGTERM before there is an event loop: remembered, not obeyed by dying.

Imports nearly nothing, so that it can come before everything that takes its time to import.
"""

from __future__ import annotations

import os
import signal
from types import FrameType
from typing import Final

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)

EXIT_INTERRUPTED: Final = 130
"""Status of a process that a second signal has ended at once."""

_noted = 0


def remember() -> None:
    """From now on the first signal is only noted; the second ends the process at once.

    For a program that has nothing to clean up yet.
    """
    for number in SIGNALS:
        signal.signal(number, _note)


def noted() -> int:
    """How many signals have come since :func:`remember`."""
    return _noted


def _note(_number: int, _frame: FrameType | None) -> None:
    global _noted
    _noted += 1
    if _noted > 1:
        os._exit(EXIT_INTERRUPTED)
