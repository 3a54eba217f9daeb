"""Asking the executor that is running on this machine. For commands: blocks, and imports little."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Final

from executor.control.protocol import Command, encode, read_answer

if sys.platform == "win32":
    from executor.control.pipe_client import exchange
else:
    from executor.control.unix_client import exchange

TIMEOUT_S: Final = 5.0


def ask(
    home: Path, command: Command, *, timeout_s: float = TIMEOUT_S, **arguments: str
) -> dict[str, Any]:
    """Ask the executor of *home*, and wait for its answer.

    Returns:
        The TypedDict of :mod:`executor.control.protocol` that belongs to the command.

    Raises:
        NotRunning: There is no such executor.
        ControlError: It refuses, or does not answer within *timeout_s* seconds.
    """
    return read_answer(exchange(home, encode({"command": command, **arguments}), timeout_s))
