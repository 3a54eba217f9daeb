"""Feeding hooks: each has a queue, a task and a thread of its own, and can hurt only itself."""

from __future__ import annotations

import asyncio
import math
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from executor.hooks.base import EventHook, Hook
from executor.hooks.calls import AFTER_EXECUTION, HookCall
from executor.hooks.thread import CallStuck, CallTimedOut, HookThread
from shared.logging import get_logger
from shared.protocol.events import AgentEvent
from shared.shielding import finish, stop

logger = get_logger("hooks")

QUEUED_CALLS: Final = 256
"""How many calls wait for a hook at most, each of up to 256 KiB; more is not told to it."""

ON_EVENT: Final = "on_event"

_TOO_SLOW: Final = "is too slow: calls are dropped"


@dataclass(frozen=True, slots=True)
class HookSource:
    """Where the instances of one hook come from."""

    name: str
    kind: type[Hook]
    make: Callable[[], Hook] | None = None
    """Called for each run, on the hook's thread; ``None``: *kind* itself."""
    timeout_s: float | None = None
    """How long one call may take; ``None``: as the settings say."""

    def wants(self, call: str) -> bool:
        """Whether a call does anything."""
        return getattr(self.kind, call) is not getattr(Hook, call)

    def wants_event(self, kind: str) -> bool:
        """Whether it is to see events of this type."""
        if not issubclass(self.kind, EventHook):
            return False
        return self.kind.events is None or kind in self.kind.events


class HookRunner:
    """One hook during one run; begins when this is made. For one event loop."""

    def __init__(
        self,
        source: HookSource,
        *,
        timeout_s: float,
        warn: Callable[[str], None],
        queued: int = QUEUED_CALLS,
    ) -> None:
        """Begin.

        Args:
            source: Makes the hook.
            timeout_s: How long one call may take, unless *source* says otherwise.
            warn: Gets a sentence for each kind of problem, once.
            queued: See :data:`QUEUED_CALLS`.
        """
        self._source = source
        self._timeout_s = source.timeout_s or timeout_s
        self._warn = warn
        self._queued = queued
        self._calls: deque[HookCall] = deque()
        self._more = asyncio.Event()
        self._ending = self._given_up = False
        self._catch_up_by = math.inf
        """When the run has ended: until when calls before the last one are still told."""
        self._problems: Counter[str] = Counter()
        self._task = asyncio.create_task(self._serve(), name=f"hook {source.name}")

    def offer_event(self, event: AgentEvent) -> None:
        """As :meth:`offer`, for an event as it is; nothing when the hook does not want it."""
        if self._source.wants_event(event.type):
            self._queue(HookCall(ON_EVENT, {"event": event}))

    def offer(self, call: HookCall) -> None:
        """Have the hook called when its turn comes; never waits.

        A call that finds the queue full is dropped, unless it is the last one of the run. After
        that one the hook has the time of one call to catch up; what is left is dropped, too.
        """
        if call.name == AFTER_EXECUTION or self._source.wants(call.name):
            self._queue(call)

    def _queue(self, call: HookCall) -> None:
        if self._given_up or self._ending:
            return
        if call.name == AFTER_EXECUTION:
            self._ending = True
            self._catch_up_by = _now() + self._timeout_s
        if len(self._calls) >= self._queued and not self._ending:
            self._problem(_TOO_SLOW)
            return
        self._calls.append(call)
        self._more.set()

    @property
    def ending(self) -> bool:
        """Whether its run has ended."""
        return self._ending

    def when_ended(self, then: Callable[[HookRunner], object]) -> None:
        """Call *then* when the hook has been told everything, or was given up."""
        self._task.add_done_callback(lambda _: then(self))

    async def wait_ended(self) -> None:
        """Wait until that."""
        await asyncio.wait({self._task})

    async def close(self) -> None:
        """End it now; takes a few seconds when the hook does not obey."""
        if not self._task.done():
            logger.warning("hook %s: cut off, since it takes too long", self._source.name)
        await stop(self._task)

    async def _serve(self) -> None:
        name = self._source.name
        thread: HookThread | None = None
        try:
            thread = HookThread(f"hook {name}")
            await self._serve_in(thread)
        except Exception as exc:  # noqa: BLE001 - no thread or descriptor may be left
            self._failed("feeding it", exc)
        finally:
            self._given_up = True
            self._calls.clear()
            if thread is not None and not await finish(thread.stop()):
                logger.error("hook %s: it blocks, its thread is left behind", name)
            for what, count in self._problems.items():
                if count > 1:
                    logger.warning("hook %s: %s, %d times in this run", name, what, count)

    async def _serve_in(self, thread: HookThread) -> None:
        try:
            hook: Hook = await thread.call(self._source.make or self._source.kind, self._timeout_s)
        except Exception as exc:  # noqa: BLE001 - somebody else's code raises what it likes
            self._failed("making it", exc)
            return
        while True:
            while not self._calls:
                self._more.clear()
                await self._more.wait()
            call = self._calls.popleft()
            if call.name != AFTER_EXECUTION and _now() > self._catch_up_by:
                self._problem(_TOO_SLOW)
                continue
            try:
                await thread.call(lambda call=call: _apply(hook, call), self._timeout_s)  # type: ignore[misc] # called at once
            except Exception as exc:  # noqa: BLE001 - as above
                self._failed(call.name, exc)
                if isinstance(exc, CallStuck):
                    return
            if call.name == AFTER_EXECUTION:
                return

    def _failed(self, where: str, exc: Exception) -> None:
        if isinstance(exc, CallTimedOut):
            self._problem(f"{where} {exc}")
        else:
            self._problem(f"{where} raised {type(exc).__name__}", exc)

    def _problem(self, what: str, exc: Exception | None = None) -> None:
        self._problems[what] += 1
        if self._problems[what] == 1:
            logger.warning("hook %s: %s", self._source.name, what, exc_info=exc)
            self._warn(f"hook {self._source.name}: {what}")


def _now() -> float:
    return asyncio.get_running_loop().time()


def _apply(hook: Hook, call: HookCall) -> object:
    # By place: a hook may call its parameters what it likes.
    return getattr(hook, call.name)(*call.arguments.values())


async def end_all(runners: Sequence[HookRunner], within_s: float) -> None:
    """Let *runners* come to their ends for *within_s* seconds, and cut off what is left."""
    try:
        async with asyncio.timeout(within_s):
            await asyncio.gather(*(runner.wait_ended() for runner in runners))
    except TimeoutError:
        await asyncio.gather(*(runner.close() for runner in runners))
