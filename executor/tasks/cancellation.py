"""Whether a run was asked to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from shared.shielding import stop

T = TypeVar("T")


class Cancelled(Exception):
    """The run was asked to stop between two turns."""


class Cancellation:
    """The wish that one run stops. For one event loop."""

    def __init__(self) -> None:
        self.reason: str | None = None
        self._asked = asyncio.Event()

    @property
    def asked(self) -> bool:
        """Whether it shall stop."""
        return self._asked.is_set()

    def ask(self, reason: str | None) -> None:
        """Have it stop; the last reason counts."""
        self.reason = reason
        self._asked.set()

    def check(self) -> None:
        """Go no further when it shall stop.

        Raises:
            Cancelled: It shall.
        """
        if self.asked:
            raise Cancelled

    async def unless(self, step: Coroutine[Any, Any, T]) -> T:
        """The result of *step*, which is cancelled when the run shall stop.

        Raises:
            Cancelled: It shall, and *step* was not done.
        """
        task = asyncio.create_task(step)
        asked = asyncio.create_task(self._asked.wait())
        try:
            await asyncio.wait({task, asked}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise Cancelled
            return task.result()
        finally:
            asked.cancel()
            await stop(task)
