"""HeartbeatService: tells the backend that this executor lives, and notices when nobody listens."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, NoReturn, Protocol

from shared.errors import LinkLost
from shared.logging import get_logger
from shared.protocol.events import RunKey, RunRef, utc_timestamp
from shared.protocol.local import Heartbeat, HeartbeatAck, LocalEvent, RunName, read_ack, to_wire

logger = get_logger("heartbeat")


class Load(Protocol):
    """What a heartbeat tells; the supervisor."""

    draining: bool

    @property
    def free_slots(self) -> int:
        """How many more runs could start at once."""
        ...

    def unfinished(self) -> list[RunRef]:
        """Every accepted run without a verdict, queued ones too."""
        ...

    def running_task_ids(self) -> list[int | str]:
        """The sessions that have a run in progress."""
        ...

    def supersede(self, key: RunKey) -> None:
        """Stop a run that the backend does not want any more."""
        ...


class Emitter(Protocol):
    """One live connection, as heartbeats see it."""

    async def emit(
        self, event: str, payload: dict[str, Any], *, on_ack: Callable[[object], None] | None = None
    ) -> None:
        """Send; raises LinkLost when the connection is gone."""
        ...


@dataclass(frozen=True, slots=True)
class Rhythm:
    """How often to beat, and how long without an answer means that the connection is dead.

    ``timeout_s`` is ``None`` for a base backend: it does not answer, and the transport's own ping
    decides.
    """

    interval_s: float
    timeout_s: float | None


def time_with_sleep() -> float:
    """Seconds that pass on while the machine sleeps: a connection from before is no better then.

    ``time.monotonic`` stands meanwhile on Linux.
    """
    return time.clock_gettime(_CLOCK) if _CLOCK is not None else time.monotonic()


_CLOCK: Final[int | None] = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", None))
"""On macOS, CLOCK_MONOTONIC is the one that goes on; Windows has neither."""


class HeartbeatService:
    """Beats on one connection at a time; a connection that answers none is given up."""

    def __init__(
        self,
        executor_id: str,
        load: Load,
        unheard_verdicts: Callable[[], Iterable[RunRef]],
        *,
        on_heard: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time_with_sleep,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Take the parts.

        Args:
            executor_id: Who beats.
            load: What there is to tell.
            unheard_verdicts: The runs that have ended without the backend knowing: for it they are
                unfinished, and lost when no heartbeat lists them.
            on_heard: Called when a beat is answered; where none is ever answered, when one is sent
                on a connection that is not known to be gone. Must not wait.
            clock: Seconds, see :func:`time_with_sleep`.
            sleep: Waits so many seconds.
        """
        self._executor_id = executor_id
        self._load = load
        self._unheard_verdicts = unheard_verdicts
        self._on_heard = on_heard
        self._clock = clock
        self._sleep = sleep

    async def run(self, link: Emitter, rhythm: Rhythm) -> NoReturn:
        """Beat now and every interval.

        A beat does not wait for the answer to the one before, so that a slow backend still hears
        them in time. An answer counts whenever it comes.

        Raises:
            LinkLost: None was answered within the timeout, or the connection is gone.
        """
        answered_at = began_at = self._clock()
        answered = 0

        def on_ack(raw: object) -> None:
            nonlocal answered_at, answered
            ack = read_ack(HeartbeatAck, raw)
            if ack is None or not ack.success:
                logger.warning("the backend did not take a heartbeat")
                return
            answered_at = self._clock()
            answered += 1
            self._on_heard()
            for run in ack.superseded:
                self._load.supersede((str(run.subtask_id), run.attempt))

        next_beat = began_at
        while True:
            now = self._clock()
            if rhythm.timeout_s is not None and now - answered_at >= rhythm.timeout_s:
                last = f"{now - answered_at:.0f} s ago" if answered else "never"
                raise LinkLost(
                    f"no heartbeat was answered within {rhythm.timeout_s:g} s "
                    f"(last answer: {last}, connected for {now - began_at:.0f} s)"
                )
            if now >= next_beat:
                next_beat = now + rhythm.interval_s
                await link.emit(
                    LocalEvent.HEARTBEAT,
                    to_wire(self._beat()),
                    on_ack=None if rhythm.timeout_s is None else on_ack,
                )
                if rhythm.timeout_s is None:
                    self._on_heard()
            wake_at = next_beat
            if rhythm.timeout_s is not None:
                wake_at = min(wake_at, answered_at + rhythm.timeout_s)
            await self._sleep(max(0.0, wake_at - now))

    def _beat(self) -> Heartbeat:
        unfinished = self._load.unfinished()
        runs = [*unfinished, *self._unheard_verdicts()]
        return Heartbeat(
            executor_id=self._executor_id,
            timestamp=utc_timestamp(),
            status="draining" if self._load.draining else "busy" if unfinished else "alive",
            runs=[RunName(subtask_id=run.subtask_id, attempt=run.attempt) for run in runs],
            running_task_ids=self._load.running_task_ids(),
            free_slots=self._load.free_slots,
        )
