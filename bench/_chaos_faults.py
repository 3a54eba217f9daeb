"""Which faults happen when, worked out from a seed, and how each is done to the running system."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import psutil

from bench._chaos_load import Stage, Work
from bench._chaos_programs import ChaosSystem, ExecutorHost, Host

Chance = random.Random

TRIES: Final = 400
"""How often a fault looks for something to hit, every :data:`TRY_S`, before it gives up."""

TRY_S: Final = 0.05

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


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault to come; *seed* decides its details, so that they do not depend on timing."""

    at_s: float
    kind: str
    seed: int


def schedule(seed: int, seconds: float, counts: Mapping[str, int]) -> list[Fault]:
    """So many faults of each kind, at times of their own within the first nine tenths."""
    chance = Chance(seed)
    faults = [
        Fault(chance.uniform(0, 0.9 * seconds), kind, chance.getrandbits(32))
        for kind, count in sorted(counts.items())
        for _ in range(count)
    ]
    return sorted(faults, key=lambda fault: fault.at_s)


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
        from_s = time.monotonic()
        live = [work for work in works if work.under_way]
        stages = Counter(work.stage for work in live)
        done = await FAULTS[fault.kind](system, Chance(fault.seed), works)
        if done is not None:
            hits.append(Hit(fault.kind, from_s, time.monotonic(), done or None, stages))

    async with asyncio.TaskGroup() as group:
        for fault in faults:
            await asyncio.sleep(max(0.0, began + fault.at_s - loop.time()))
            group.create_task(one(fault))
    return hits


# Each gives the session whose agent it has hit, "" when it was none's in particular, or None when
# there was nothing to hit.


async def _cut(system: ChaosSystem, chance: Chance, _works: Sequence[Work]) -> str | None:
    wire = system.some_executor(chance).wire
    for _ in range(TRIES):
        if wire.connections:
            wire.cut()
            return ""
        await asyncio.sleep(TRY_S)
    return None


async def _freeze(system: ChaosSystem, chance: Chance, _works: Sequence[Work]) -> str | None:
    host = system.some_executor(chance)
    async with host.lock:
        host.wire.freeze()
        await asyncio.sleep(chance.choice((0.2, 1.0, 3.0, 8.0)))
        if chance.random() < 0.5:
            host.wire.cut()  # what was held back is lost
        host.wire.thaw()
    return ""


async def _slow(system: ChaosSystem, chance: Chance, _works: Sequence[Work]) -> str | None:
    wire = system.some_executor(chance).wire
    wire.delay_s = chance.uniform(0.01, 0.2)
    await asyncio.sleep(chance.uniform(0.5, 3))
    wire.delay_s = 0.0
    return ""


async def _refuse(system: ChaosSystem, chance: Chance, _works: Sequence[Work]) -> str | None:
    host = system.some_executor(chance)
    async with host.lock:
        await host.wire.refuse()
        host.wire.cut()
        await asyncio.sleep(chance.uniform(0.1, 2))
        await host.wire.listen()
    return ""


async def _kill_manager(system: ChaosSystem, chance: Chance, _works: Sequence[Work]) -> str | None:
    return await _restart(system.manager, chance, system.manager.kill)


async def _kill_executor(system: ChaosSystem, chance: Chance, works: Sequence[Work]) -> str | None:
    found = await _busy_agents(system, works)
    if not found:
        return None
    host, _, _ = chance.choice(found)
    return await _restart(host, chance, host.kill)


async def _drain(system: ChaosSystem, chance: Chance, works: Sequence[Work]) -> str | None:
    found = await _busy_agents(system, works)
    if not found:
        return None
    host, _, _ = chance.choice(found)
    return await _restart(host, chance, host.stop)


async def _restart(host: Host, chance: Chance, end: Callable[[], Awaitable[None]]) -> str:
    async with host.lock:
        await end()
        await asyncio.sleep(chance.uniform(0, 1))
        await host.start()
    return ""


async def _full_disk(system: ChaosSystem, chance: Chance, _works: Sequence[Work]) -> str | None:
    host = system.some_executor(chance)
    if host.disk is None:
        return None
    async with host.disk_lock:
        await host.disk.fill()
        await asyncio.sleep(chance.uniform(0.5, 4))
        await host.disk.free()
    return ""


async def _step_clock(system: ChaosSystem, chance: Chance, _works: Sequence[Work]) -> str | None:
    host = chance.choice(system.hosts)
    if host.clock is None:
        return None
    host.clock.step(chance.choice(CLOCK_STEPS_S))
    return ""


async def _kill_agent(system: ChaosSystem, chance: Chance, works: Sequence[Work]) -> str | None:
    found = await _busy_agents(system, works)
    if not found:
        return None
    _, process, session_id = chance.choice(found)
    with suppress(psutil.NoSuchProcess):
        process.kill()
        return session_id
    return None


async def _busy_agents(
    system: ChaosSystem, works: Sequence[Work]
) -> list[tuple[ExecutorHost, psutil.Process, str]]:
    """Agents that are in the middle of a run, with their executors and sessions.

    Waited for, so that a kill of an executor or agent has something to ruin.
    """
    for _ in range(TRIES):
        busy = {work.session_id for work in works if work.under_way and work.stage != "beginning"}
        found = [
            (host, process, session_id)
            for host in system.executors
            for process, session_id in await asyncio.to_thread(host.agents)
            if session_id in busy
        ]
        if found:
            return found
        await asyncio.sleep(TRY_S)
    return []


FaultKind = Callable[[ChaosSystem, Chance, Sequence[Work]], Coroutine[Any, Any, str | None]]

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
