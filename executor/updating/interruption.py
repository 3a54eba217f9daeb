"""Signals during an update: they end it in good order, or are forgotten where they must not."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

_SIGNALS: Final = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
"""Ctrl-C, a request to end, and the loss of the terminal; Windows does not have all of them."""

Handler = Callable[[int, FrameType | None], object]


@contextmanager
def interruptible() -> Iterator[None]:
    """Let the first of the signals raise ``KeyboardInterrupt``, so that things are put right.

    Those after it are forgotten: a single file hears a Ctrl-C twice, from its terminal and from its
    loader.
    """
    with _handled_by(_interrupt):
        yield


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Let none of the signals end what has to be finished; they are forgotten."""
    with _handled_by(_forget):
        yield


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    for number in _SIGNALS:
        signal.signal(number, _forget)
    raise KeyboardInterrupt


def _forget(_number: int, _frame: FrameType | None) -> None:
    """Not ``SIG_IGN``, which the programs that are started here would inherit."""


@contextmanager
def _handled_by(handler: Handler) -> Iterator[None]:
    before = [(number, signal.signal(number, handler)) for number in _SIGNALS]
    try:
        yield
    finally:
        for number, replaced in before:
            signal.signal(number, replaced)
