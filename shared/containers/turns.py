"""Calls for one session, one after the other; those for others do not wait."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


class Turns:
    """Forgets a session when nobody is at it."""

    def __init__(self) -> None:
        self._turns: dict[str, _Turn] = {}

    @asynccontextmanager
    async def of(self, session_id: str) -> AsyncIterator[None]:
        """Waits until nobody else is at the session, and has it until the end of the block."""
        turn = self._turns.setdefault(session_id, _Turn())
        turn.people += 1
        try:
            async with turn.lock:
                yield
        finally:
            turn.people -= 1
            if not turn.people:
                del self._turns[session_id]


@dataclass(slots=True)
class _Turn:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    people: int = 0  # at it, or waiting
