"""Runs from before a restart: how long they wait to be dispatched again, and how they go on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from shared.protocol.execution import ExecutionRequest, TextBlock

WAIT_S: Final = 60.0
"""How long a connected backend may take to dispatch a run again. Source: Delivery 4."""

CONTINUE: Final = (
    "Your last turn was cut off, because the program that runs you was restarted. Look at what"
    " you have done so far and go on from there; do not do again what is done already. If nothing"
    " is left to do, give your final answer. This is the task, as it was given to you:\n\n"
)
"""Put before the prompt of a resumed conversation. The task stands there too, since the agent may
have been cut off before it had written it down."""


def continued(request: ExecutionRequest, sdk_session_id: str | None) -> ExecutionRequest:
    """What a run that was cut off asks of its agent; ``None``: its conversation had not begun."""
    if sdk_session_id is None:
        return request
    prompt = request.prompt
    going_on = (
        CONTINUE + prompt
        if isinstance(prompt, str)
        else [TextBlock(type="text", text=CONTINUE), *prompt]
    )
    return request.model_copy(
        update={"prompt": going_on, "sdk_session_id": sdk_session_id, "new_session": False}
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
