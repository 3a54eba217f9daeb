"""Which faults happen when, worked out from a seed, and how each is done to the running system."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import psutil

from bench._chaos_programs import ChaosSystem

Chance = random.Random

CONNECTED_TRIES: Final = 100
"""How often a cut looks for a connection, every 50 ms, before it gives up."""


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


async def inject(system: ChaosSystem, faults: list[Fault]) -> Counter[str]:
    """Let the faults happen; afterwards everything runs and every wire is whole.

    Returns:
        How many of each kind really hit something.
    """
    done: Counter[str] = Counter()
    loop = asyncio.get_running_loop()
    began = loop.time()

    async def one(fault: Fault) -> None:
        if await FAULTS[fault.kind](system, Chance(fault.seed)):
            done[fault.kind] += 1

    async with asyncio.TaskGroup() as group:
        for fault in faults:
            await asyncio.sleep(max(0.0, began + fault.at_s - loop.time()))
            group.create_task(one(fault))
    return done


async def _cut(system: ChaosSystem, chance: Chance) -> bool:
    wire = system.some_executor(chance).wire
    for _ in range(CONNECTED_TRIES):
        if wire.connections:
            wire.cut()
            return True
        await asyncio.sleep(0.05)
    return False


async def _freeze(system: ChaosSystem, chance: Chance) -> bool:
    host = system.some_executor(chance)
    async with host.lock:
        host.wire.freeze()
        await asyncio.sleep(chance.choice((0.2, 1.0, 3.0, 8.0)))
        if chance.random() < 0.5:
            host.wire.cut()  # what was held back is lost
        host.wire.thaw()
    return True


async def _slow(system: ChaosSystem, chance: Chance) -> bool:
    wire = system.some_executor(chance).wire
    wire.delay_s = chance.uniform(0.01, 0.2)
    await asyncio.sleep(chance.uniform(0.5, 3))
    wire.delay_s = 0.0
    return True


async def _refuse(system: ChaosSystem, chance: Chance) -> bool:
    host = system.some_executor(chance)
    async with host.lock:
        await host.wire.refuse()
        host.wire.cut()
        await asyncio.sleep(chance.uniform(0.1, 2))
        await host.wire.listen()
    return True


async def _kill_manager(system: ChaosSystem, chance: Chance) -> bool:
    return await _kill(system.manager, chance)


async def _kill_executor(system: ChaosSystem, chance: Chance) -> bool:
    return await _kill(system.some_executor(chance), chance)


async def _kill(host: Any, chance: Chance) -> bool:
    async with host.lock:
        await host.kill()
        await asyncio.sleep(chance.uniform(0, 1))
        await host.start()
    return True


async def _full_disk(system: ChaosSystem, chance: Chance) -> bool:
    host = system.some_executor(chance)
    if host.disk is None:
        return False
    async with host.disk_lock:
        await host.disk.fill()
        await asyncio.sleep(chance.uniform(0.5, 4))
        await host.disk.free()
    return True


async def _kill_agent(system: ChaosSystem, chance: Chance) -> bool:
    agents = [a for host in system.executors for a in await asyncio.to_thread(host.agents)]
    if agents:
        with suppress(psutil.NoSuchProcess):
            chance.choice(agents).kill()
    return bool(agents)


FAULTS: Final[Mapping[str, Callable[[ChaosSystem, Chance], Coroutine[Any, Any, bool]]]] = {
    "cut": _cut,
    "freeze": _freeze,
    "slow": _slow,
    "refuse": _refuse,
    "kill manager": _kill_manager,
    "kill executor": _kill_executor,
    "kill agent": _kill_agent,
    "full disk": _full_disk,
}
"""Each does one fault and says whether it hit something."""
