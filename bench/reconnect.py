"""From the end of an outage to the executor's registration.

Real executors, each with a Socket.IO backend in this process and a wire that breaks on command, all
at the same time. Short outages with the usual settings; long ones, in which the pauses between
attempts grow, with a lower limit of these pauses, so that it is reached soon, or with the usual one
(``--longest``). In turns the network refuses connections, and accepts them without an answer.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

if not __package__:  # started as a file: the repository's root belongs on the path, not this folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from bench._measure import Judged, Report
from bench._programs import executor_environment, program, temporary_folder
from shared.protocol.local import LocalEvent
from tests.fakes.backend import TOKEN, FakeBackend, open_backend
from tests.fakes.wire import Wire, open_wire

AIM_SHORT_S = 2.0
SHORT_S = (0.1, 2.0)
"""Shortest and longest of the short outages; the aim is for outages up to this."""

LOWERED_CAP_S = 3.0
LONG_S = (8.0, 14.0)
"""The pauses grow from the sixth second on, and have reached the lowered limit by then."""

USUAL_CAP_S = 30.0
LONGEST_S = (60.0, 150.0)

LIMIT_S = 120.0

CALM_S = 0.3
"""Between a registration and the next outage."""


async def outages(place: Path, lasts_s: Sequence[float], cap_s: float, took: list[float]) -> None:
    """Seconds from the end of each outage to the registration, for one executor, into *took*."""
    await asyncio.to_thread(place.mkdir)
    async with open_backend() as backend, open_wire(backend.port) as wire:
        env = executor_environment(place, f"http://127.0.0.1:{wire.port}", TOKEN)
        env["LOCAL_RECONNECT_MAX_DELAY"] = f"{cap_s:g}"
        async with program(["-m", "executor.main"], env, place / "executor.stderr"):
            await registered(backend)
            for number, seconds in enumerate(lasts_s):
                await asyncio.sleep(CALM_S)
                over_s = await (refused if number % 2 else silent)(wire, seconds)
                took.append(await registered(backend) - over_s)


async def registered(backend: FakeBackend) -> float:
    """Wait for the next registration; when it came."""
    async with asyncio.timeout(LIMIT_S):
        await backend.expect(LocalEvent.REGISTER)
    return time.monotonic()


async def refused(wire: Wire, seconds: float) -> float:
    """End the connection and refuse others for so long; when that was over."""
    await wire.refuse()
    wire.cut()
    await asyncio.sleep(seconds)
    await wire.listen()
    return time.monotonic()


async def silent(wire: Wire, seconds: float) -> float:
    """End the connection, accept others and say nothing for so long; when that was over."""
    wire.freeze()
    wire.cut()
    await asyncio.sleep(seconds)
    over_s = time.monotonic()
    wire.thaw()
    return over_s


@dataclass(frozen=True, slots=True)
class Group:
    """Outages of one length, each time of several executors at once."""

    name: str
    span_s: tuple[float, float]
    """Shortest and longest."""
    cap_s: float
    """The executors' limit of their pauses."""
    aim_s: float
    judged: Judged


GROUPS = (
    Group("of 0.1 to 2 s", SHORT_S, USUAL_CAP_S, AIM_SHORT_S, "p95"),
    Group("of 8 to 14 s, longest pause 3 s", LONG_S, LOWERED_CAP_S, LOWERED_CAP_S + 1, "max"),
    Group("of 60 to 150 s, longest pause 30 s", LONGEST_S, USUAL_CAP_S, USUAL_CAP_S + 1, "max"),
)


async def measure(
    chance: random.Random, executors: int, rounds: Sequence[int]
) -> list[tuple[Group, list[float]]]:
    """So many outages of each executor of each group, all groups at the same time."""
    measured = []
    with temporary_folder() as place:
        async with asyncio.TaskGroup() as tasks:
            for group, number in zip(GROUPS, rounds, strict=True):
                took: list[float] = []
                measured.append((group, took))
                for executor in range(executors if number else 0):
                    lasts_s = [chance.uniform(*group.span_s) for _ in range(number)]
                    home = place / f"{GROUPS.index(group)}-{executor}"
                    tasks.create_task(outages(home, lasts_s, group.cap_s, took))
    return measured


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Time from an outage's end to the registration")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--executors", type=int, default=4, help="of each kind of outage")
    parser.add_argument("--short", type=int, default=8, help="short outages of each executor")
    parser.add_argument("--long", type=int, default=1, help="outages of 8 to 14 s of each")
    parser.add_argument("--longest", type=int, default=0, help="outages of 60 to 150 s of each")
    options = parser.parse_args()
    report = Report("reconnect: from the end of an outage to the registration")
    rounds = options.short, options.long, options.longest
    chance = random.Random(options.seed)
    for group, took in asyncio.run(measure(chance, options.executors, rounds)):
        if took:
            name = f"outages {group.name}"
            report.add(name, took, "s", aim=group.aim_s, judged=group.judged)
    report.show(as_json=options.json)


if __name__ == "__main__":
    main()
