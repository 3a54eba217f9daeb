"""Runs from before a restart: how long they wait to be dispatched again, and how they go on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from executor.tasks.continuing import AFTER_RESTART, noted
from shared.protocol.execution import ExecutionRequest

WAIT_S: Final = 60.0
"""How long a connected backend may take to dispatch a run again. Source: Delivery 4."""


def continued(request: ExecutionRequest, sdk_session_id: str | None) -> ExecutionRequest:
    """What a run that was cut off asks of its agent; ``None``: its conversation had not begun."""
    if sdk_session_id is None:
        return request
    return request.model_copy(
        update={
            "prompt": noted(AFTER_RESTART, request.prompt),
            "sdk_session_id": sdk_session_id,
            "new_session": False,
        }
    )


class RedispatchClock:
    """Counts the time for which a backend was connected that could have dispatched again."""

    def __init__(self, give_up: Callable[[str], None], *, wait_s: float = WAIT_S) -> None:
        """*give_up* is told why, when no run needs to wait any longer."""
        self._give_up = give_up
        self._left_s = wait_s
        self._wait_s = wait_s
        self._since = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._stopped = False

    def connected(self, *, redispatches: bool) -> None:
        """A backend has registered this executor."""
        if not redispatches:
            self._give_up("this backend does not continue runs")
            return
        if self._stopped:
            return
        loop = asyncio.get_running_loop()
        self._since = loop.time()
        self._timer = loop.call_later(self._left_s, self._over)

    def disconnected(self) -> None:
        """The connection has ended; the clock stands."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            passed = asyncio.get_running_loop().time() - self._since
            self._left_s = max(0.0, self._left_s - passed)

    def stop(self) -> None:
        """Count no more: this process takes no run up, a later one may."""
        self.disconnected()
        self._stopped = True

    def _over(self) -> None:
        self._timer, self._left_s = None, 0.0
        self._give_up(f"the backend did not send this run again within {self._wait_s:g} s")
