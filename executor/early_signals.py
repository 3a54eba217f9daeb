"""SIGINT and SIGTERM before there is an event loop: nothing has begun, so nothing has to be ended.

Imports nearly nothing, so that it can come before everything that takes its time to import.
"""

from __future__ import annotations

import os
import signal
from types import FrameType
from typing import Final

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


def stop_at_once() -> None:
    """Until somebody else handles the signals, they end the process as stopped as asked."""
    for number in SIGNALS:
        signal.signal(number, _stop)


def leave_to_python() -> None:
    """Ctrl-C raises ``KeyboardInterrupt`` again, SIGTERM ends the process: for short commands."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _stop(_number: int, _frame: FrameType | None) -> None:
    os._exit(0)
