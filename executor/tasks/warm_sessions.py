"""Warm sessions: live agent processes that wait for the next message of their session.

A conversation outlives its process, so any of them may be ended at any time; the next turn then
resumes by id and is only slower.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from executor.agents.protocol import AgentSession
from executor.memory import MemoryPressure
from shared.logging import get_logger
from shared.shielding import stop

logger = get_logger("warm_sessions")

CHECK_INTERVAL_S: Final = 5.0
"""Between two looks at the memory and at the processes, as long as there are any. A compiler takes
some 100 MB in this time."""


@dataclass(slots=True, eq=False)
class _Warm:
    session: AgentSession
    fingerprint: str
    expiry: asyncio.TimerHandle


class WarmSessions:
    """At most *limit* idle sessions, each for at most *idle_s* seconds; the oldest goes first.

    None at all while memory is short (*pressure*; ``None``: it never is).
    """

    def __init__(
        self,
        *,
        limit: int,
        idle_s: float,
        pressure: MemoryPressure | None = None,
        check_interval_s: float = CHECK_INTERVAL_S,
    ) -> None:
        self._limit = limit
        self._idle_s = idle_s
        self._pressure = pressure
        self._check_interval_s = check_interval_s
        self._warm: OrderedDict[str, _Warm] = OrderedDict()
        self._ending: dict[str, asyncio.Task[None]] = {}
        """By session: until a process has ended it still writes down its conversation."""
        self._watching: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def sessions(self) -> list[str]:
        """The sessions whose processes wait, the one that has waited longest first."""
        return list(self._warm)

    async def take(self, task_id: str, fingerprint: str) -> AgentSession | None:
        """Take the session out for a turn; ``None`` when there is none that fits.

        One that has died, or was opened with other options (*fingerprint*), is ended first. No
        process of this session is left when this returns ``None``.
        """
        warm = self._warm.get(task_id)
        if warm is not None and warm.fingerprint == fingerprint and warm.session.alive:
            self._remove(task_id)
            return warm.session
        await self.close_session(task_id)
        return None

    async def park(self, task_id: str, session: AgentSession, fingerprint: str) -> None:
        """Keep *session* for the next turn, or end it when none may be kept.

        The memory is looked at just afterwards, since the run need not wait for that.
        """
        if self._closed or self._limit == 0 or self._idle_s == 0:
            await session.close()
            return
        expiry = asyncio.get_running_loop().call_later(self._idle_s, self._expire, task_id)
        self._warm[task_id] = _Warm(session, fingerprint, expiry)
        while len(self._warm) > self._limit:
            self._end(next(iter(self._warm)))
        if self._watching is None or self._watching.done():
            self._watching = asyncio.create_task(self._watch(), name="watch warm sessions")

    async def close_session(self, task_id: str) -> None:
        """End one session's process, if it is warm, and wait for its end."""
        self._end(task_id)
        if (ending := self._ending.get(task_id)) is not None:
            await asyncio.wait({ending})

    def wind_down(self) -> None:
        """Begin to end every process, and keep none from now on."""
        self._closed = True
        self._end_all()

    async def close(self) -> None:
        """Wind down, and wait until every process has ended, also those ended before."""
        self.wind_down()
        if self._watching is not None:
            await stop(self._watching)
        if self._ending:
            await asyncio.wait(self._ending.values())

    async def _watch(self) -> None:
        """Look after the warm sessions until there are none."""
        while True:
            for task_id in [key for key, warm in self._warm.items() if not warm.session.alive]:
                logger.debug("an idle session has died", task_id=task_id)
                self._end(task_id)
            if self._pressure is not None and await asyncio.to_thread(self._pressure.check):
                if self._warm:
                    logger.warning("memory is short: %d idle sessions ended", len(self._warm))
                self._end_all()
            if not self._warm:
                return  # whoever comes next is looked at at once
            await asyncio.sleep(self._check_interval_s)

    def _expire(self, task_id: str) -> None:
        logger.info("idle session ended", task_id=task_id)
        self._end(task_id)

    def _remove(self, task_id: str) -> _Warm | None:
        warm = self._warm.pop(task_id, None)
        if warm is not None:
            warm.expiry.cancel()
        return warm

    def _end_all(self) -> None:
        for task_id in list(self._warm):
            self._end(task_id)

    def _end(self, task_id: str) -> None:
        """Begin to end one session's process, if it is warm."""
        warm = self._remove(task_id)
        if warm is None:
            return
        task = asyncio.create_task(warm.session.close(), name=f"close session {task_id}")
        self._ending[task_id] = task
        task.add_done_callback(lambda _: self._ending.pop(task_id))
