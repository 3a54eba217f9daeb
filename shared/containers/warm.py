"""Keeping containers ready that serve nobody yet, each with an empty directory of its own."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from shared.containers.errors import ContainerError
from shared.containers.members import Member, Members
from shared.logging import get_logger

logger = get_logger("containers")

FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 120.0


class WarmKeeper:
    """Starts warm containers, one after the other, until there are as many as wanted.

    Args:
        target: So many, if there is room for them.
        prepare: Makes a member, its place not taken yet, from a key of its own.
        start: Starts it; removes what it made when it fails.
        first_pause_s: After a failure; doubled after each further one.
    """

    def __init__(
        self,
        members: Members,
        target: int,
        prepare: Callable[[str], Member],
        start: Callable[[Member], Awaitable[None]],
        *,
        first_pause_s: float = FIRST_PAUSE_S,
    ) -> None:
        self._members = members
        self._target = target
        self._prepare = prepare
        self._start = start
        self._first_pause_s = first_pause_s
        self._pause_s = 0.0
        self._encouraged = asyncio.Event()
        self._changed = asyncio.Event()
        self._changed.set()

    def look(self) -> None:
        """The number of containers has changed."""
        self._changed.set()

    def encourage(self) -> None:
        """A warm container came to its use, or the engine is back: no pause before the next."""
        self._pause_s = 0.0
        self._encouraged.set()
        self._changed.set()

    def failed(self, at_least_s: float = 0.0) -> None:
        """A warm container could not be started, or has ended: the next one has to wait."""
        self._pause_s = min(max(self._first_pause_s, self._pause_s * 2), LONGEST_PAUSE_S)
        self._pause_s = max(self._pause_s, at_least_s)
        self._encouraged.clear()
        self._changed.set()

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            while self._wants_one:
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._pause_s):
                        await self._encouraged.wait()
                if self._wants_one:  # still: sessions take places meanwhile
                    await self._start_one()

    @property
    def _wants_one(self) -> bool:
        return len(self._members.warm) < self._target and not self._members.full

    async def _start_one(self) -> None:
        member = self._prepare(secrets.token_hex(8))
        self._members.add(member)
        try:
            await self._start(member)
        except ContainerError as exc:
            self._members.drop(member)
            self.failed()
            logger.warning("no warm container: %s; next try in %.0f s", exc, self._pause_s)
        except Exception:
            # Nobody else starts any, for as long as the executor runs.
            self._members.drop(member)
            self.failed()
            logger.exception("no warm container; next try in %.0f s", self._pause_s)
        except asyncio.CancelledError:
            self._members.drop(member)
            raise
