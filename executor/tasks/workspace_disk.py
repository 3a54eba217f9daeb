"""The disk that sessions work on, where that is another one than the home's.

Nothing of ours is written there all the time, so a full one is found by looking. (The home's is
noticed by :mod:`executor.delivery.database`, with its first write that is refused.)
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from executor.delivery.reserve import ENOUGH_BYTES, LEAST_BYTES, has_room
from shared.logging import get_logger

logger = get_logger("workspace")

LOOK_EVERY_S: Final = 2.0
"""A look takes some 20 µs."""


class WorkspaceDisk:
    """Tells when the disk is full, and when it is not any more. For one event loop."""

    def __init__(
        self,
        folder: Path,
        home: Path,
        on_change: Callable[[str | None], None],
        *,
        look_every_s: float = LOOK_EVERY_S,
    ) -> None:
        """Nothing is looked at before :meth:`start`.

        Args:
            folder: Where sessions work.
            home: The executor's home; if its disk is the same, nothing is ever told.
            on_change: Told, on the event loop, why the disk takes no writes; ``None``: it does
                again.
            look_every_s: See :data:`LOOK_EVERY_S`.
        """
        self._folder = folder
        self._home = home
        self._on_change = on_change
        self._look_every_s = look_every_s
        self._loop = asyncio.get_running_loop()
        self._closed = threading.Event()

    def start(self) -> None:
        """Look from now on, in a thread that nobody waits for: a network's disk may not answer."""
        threading.Thread(target=self._watch, name="workspace disk", daemon=True).start()

    def close(self) -> None:
        """Tell nothing more; harmless again."""
        self._closed.set()

    def _watch(self) -> None:
        full = told_failure = False
        while not self._closed.is_set():
            try:
                if not full and _same_disk(self._folder, self._home):
                    return
                has_changed = has_room(self._folder, ENOUGH_BYTES if full else LEAST_BYTES) == full
            except OSError as exc:
                if not told_failure:
                    logger.warning("cannot tell whether the disk of sessions is full: %s", exc)
                told_failure, has_changed = True, False
            if has_changed:
                full = not full
                trouble = f"the disk of {self._folder} is full" if full else None
                with suppress(RuntimeError):  # the loop has ended; nobody waits any more
                    self._loop.call_soon_threadsafe(self._tell, trouble)
            self._closed.wait(self._look_every_s)

    def _tell(self, trouble: str | None) -> None:
        if not self._closed.is_set():
            self._on_change(trouble)


def _same_disk(one: Path, other: Path) -> bool:
    return one.stat().st_dev == other.stat().st_dev
