"""Which faults happen when, worked out from a seed, and how each is done to the running system."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import psutil

from bench._chaos_load import Stage, Work
from bench._chaos_programs import ChaosSystem, ExecutorHost, Host

T = TypeVar("T")

PATIENCE_S: Final = 120.0
"""How long a fault looks for something to hit before it gives up."""

LOOK_S: Final = 0.05

CLOCK_STEPS_S: Final = (-7200, -90, 0, 90, 7200)
"""How wrong a stepped clock is: within a lease, and far beyond it."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A fault that has really hit something."""

    kind: str
    from_s: float
    """When it began, by the monotonic clock."""
    to_s: float
    """When it was over."""
    session_id: str | None
    """Whose agent was hit; ``None`` when it was none's in particular."""
    stages: Counter[Stage]
    """How many runs were where at that moment."""


class NothingToHit(Exception):
    """For all its patience, a fault has found nothing to ruin."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault to come; *seed* decides its details, so that they do not depend on timing."""

    at_s: float
    kind: str
    seed: int


def schedule(seed: int, seconds: float, counts: Mapping[str, int]) -> list[Fault]:
    """So many faults of each kind, at times of their own within the first nine tenths."""
    chance = random.Random(seed)
    faults = [
        Fault(chance.uniform(0, 0.9 * seconds), kind, chance.getrandbits(32))
        for kind, count in sorted(counts.items())
        for _ in range(count)
    ]
    return sorted(faults, key=lambda fault: fault.at_s)


class Strike:
    """A fault while it is done."""

    def __init__(self, fault: Fault, system: ChaosSystem, works: Sequence[Work]) -> None:
        self.system = system
        self.chance = random.Random(fault.seed)
        self._kind = fault.kind
        self._works = works
        self._from_s = 0.0
        self._session_id: str | None = None
        self._stages: Counter[Stage] = Counter()

    def lands(self, session_id: str | None = None) -> None:
        """It has hit something this moment: the agent of this session, or none in particular."""
        self._from_s = time.monotonic()
        self._session_id = session_id
        self._stages = Counter(work.stage for work in self._works if work.under_way)

    def over(self) -> Hit:
        """It has landed before, and does no more."""
        return Hit(self._kind, self._from_s, time.monotonic(), self._session_id, self._stages)

    async def busy_agents(self) -> list[tuple[ExecutorHost, psutil.Process, str]]:
        """Agents that are in the middle of a run, with their executors and sessions."""
        busy = {w.session_id for w in self._works if w.under_way and w.stage != "beginning"}
        return [
            (host, process, session_id)
            for host in self.system.executors
            for process, session_id in await asyncio.to_thread(host.agents)
            if session_id in busy
        ]


async def inject(system: ChaosSystem, faults: list[Fault], works: Sequence[Work]) -> list[Hit]:
    """Let the faults happen; afterwards everything runs and every wire is whole.

    Args:
        works: All runs so far; grows meanwhile.

    Returns:
        Those that really hit something.
    """
    hits: list[Hit] = []
    loop = asyncio.get_running_loop()
    began = loop.time()

    async def one(fault: Fault) -> None:
        strike = Strike(fault, system, works)
        with suppress(NothingToHit):
            await FAULTS[fault.kind](strike)
            hits.append(strike.over())

    async with asyncio.TaskGroup() as group:
        for fault in faults:
            await asyncio.sleep(max(0.0, began + fault.at_s - loop.time()))
            group.create_task(one(fault))
    return hits


async def _cut(strike: Strike) -> None:
    async def connected() -> list[ExecutorHost]:
        return [host for host in strike.system.executors if host.wire.connections]

    host = strike.chance.choice(await _found(connected))
    strike.lands()
    host.wire.cut()


async def _freeze(strike: Strike) -> None:
    host = strike.system.some_executor(strike.chance)
    async with host.lock:
        strike.lands()
        host.wire.freeze()
        await asyncio.sleep(strike.chance.choice((0.2, 1.0, 3.0, 8.0)))
        if strike.chance.random() < 0.5:
            host.wire.cut()  # what was held back is lost
        host.wire.thaw()


async def _slow(strike: Strike) -> None:
    wire = strike.system.some_executor(strike.chance).wire
    strike.lands()
    wire.delay_s = strike.chance.uniform(0.01, 0.2)
    await asyncio.sleep(strike.chance.uniform(0.5, 3))
    wire.delay_s = 0.0


async def _refuse(strike: Strike) -> None:
    host = strike.system.some_executor(strike.chance)
    async with host.lock:
        strike.lands()
        await host.wire.refuse()
        host.wire.cut()
        await asyncio.sleep(strike.chance.uniform(0.1, 2))
        await host.wire.listen()


async def _kill_manager(strike: Strike) -> None:
    manager = strike.system.manager
    async with manager.lock:
        await _restart(strike, manager, manager.kill)


async def _kill_executor(strike: Strike) -> None:
    async with _busy_executor(strike) as host:
        await _restart(strike, host, host.kill)


async def _drain(strike: Strike) -> None:
    async with _busy_executor(strike) as host:
        await _restart(strike, host, host.stop)


async def _restart(strike: Strike, host: Host, end: Callable[[], Awaitable[None]]) -> None:
    """End a host that is locked, and start it again."""
    strike.lands()
    await end()
    await asyncio.sleep(strike.chance.uniform(0, 1))
    await host.start()


async def _full_disk(strike: Strike) -> None:
    host = strike.system.some_executor(strike.chance)
    if host.disk is None:
        raise NothingToHit
    async with host.disk_lock:
        strike.lands()
        await host.disk.fill()
        await asyncio.sleep(strike.chance.uniform(0.5, 4))
        await host.disk.free()


async def _step_clock(strike: Strike) -> None:
    host = strike.chance.choice(strike.system.hosts)
    if host.clock is None:
        raise NothingToHit
    strike.lands()
    host.clock.step(strike.chance.choice(CLOCK_STEPS_S))


async def _kill_agent(strike: Strike) -> None:
    while True:
        _, process, session_id = strike.chance.choice(await _found(strike.busy_agents))
        with suppress(psutil.NoSuchProcess):  # ended since it was found: another one then
            process.kill()
            strike.lands(session_id)
            return


@asynccontextmanager
async def _busy_executor(strike: Strike) -> AsyncGenerator[ExecutorHost]:
    """An executor, locked, in the middle of a run, so that there is something to ruin."""
    while True:
        host, _, _ = strike.chance.choice(await _found(strike.busy_agents))
        async with host.lock:  # the fault that has it may take long, and end the agent
            if any(busy is host for busy, _, _ in await strike.busy_agents()):
                yield host
                return


async def _found(look: Callable[[], Awaitable[list[T]]]) -> list[T]:
    """Look until there is something.

    Raises:
        NothingToHit: There was nothing for :data:`PATIENCE_S`.
    """
    give_up_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < give_up_s:
        if found := await look():
            return found
        await asyncio.sleep(LOOK_S)
    raise NothingToHit


FaultKind = Callable[[Strike], Coroutine[Any, Any, None]]

FAULTS: Final[Mapping[str, FaultKind]] = {
    "cut": _cut,
    "freeze": _freeze,
    "slow": _slow,
    "refuse": _refuse,
    "kill manager": _kill_manager,
    "kill executor": _kill_executor,
    "kill agent": _kill_agent,
    "drain executor": _drain,
    "full disk": _full_disk,
    "clock step": _step_clock,
}
