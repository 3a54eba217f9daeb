"""A terminal's whole screen, for what is shown again and again."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

# In a terminal's own words: its second screen, which keeps what was on the first; no cursor.
_ENTER: Final = "\x1b[?1049h\x1b[?25l"
_LEAVE: Final = "\x1b[?25h\x1b[?1049l"
_CLEAR: Final = "\x1b[H\x1b[J"


@contextmanager
def whole_screen() -> Iterator[Callable[[], None]]:
    """Take the screen; what it yields makes it empty, for the next picture.

    At the end the screen is as it was before. SIGTERM raises ``KeyboardInterrupt`` meanwhile, so
    that it is then, too.
    """
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.stdout.write(_ENTER)
    try:
        yield lambda: _write_later(_CLEAR)
    finally:
        sys.stdout.write(_LEAVE)
        sys.stdout.flush()
        signal.signal(signal.SIGTERM, before)


def _write_later(text: str) -> None:
    sys.stdout.write(text)  # and not flushed: it goes out with what follows, so nothing flickers
