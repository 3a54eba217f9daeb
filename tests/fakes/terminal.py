"""A terminal of 80 columns."""

from __future__ import annotations

import fcntl
import os
import struct
import termios
import threading
from collections.abc import Callable
from contextlib import redirect_stdout, suppress

Show = Callable[[Callable[[], object]], str]


def show_on_terminal(work: Callable[[], object]) -> str:
    """Carry out *work*; what it has printed."""
    screen, line = os.openpty()
    fcntl.ioctl(line, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    shown = bytearray()

    def watch() -> None:
        with suppress(OSError):  # what Linux answers when the line is closed
            while piece := os.read(screen, 65_536):
                shown.extend(piece)

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        with os.fdopen(line, "w", encoding="utf-8") as stream, redirect_stdout(stream):
            work()
    finally:
        watching.join()  # a terminal hands on what it is given in pieces, and a moment later
        os.close(screen)
    return shown.decode().replace("\r\n", "\n")
