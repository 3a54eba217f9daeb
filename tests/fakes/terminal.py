"""A terminal of 80 columns."""

from __future__ import annotations

import fcntl
import os
import struct
import termios
from collections.abc import Callable
from contextlib import redirect_stdout

Show = Callable[[Callable[[], object]], str]


def show_on_terminal(work: Callable[[], object]) -> str:
    """Carry out *work*; what it has printed, which must be less than a terminal takes at once."""
    screen, line = os.openpty()
    os.set_blocking(screen, False)
    fcntl.ioctl(line, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    with os.fdopen(line, "w", encoding="utf-8") as stream, redirect_stdout(stream):
        work()
        shown = os.read(screen, 65_536)
    os.close(screen)
    return shown.decode().replace("\r\n", "\n")
