"""From the end of an outage to the executor's registration.

Real executors, each with a Socket.IO backend in this process and a wire that breaks on command.
Short outages with the usual settings; long ones, in which the pauses between attempts grow, with
a lower limit of these pauses, so that it is reached soon, or with the usual one (``--longest``). In
turns the network refuses connections, and accepts them without an answer.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from collections.abc import Sequence
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
P95: Judged = "p95"
MAX: Judged = "max"

CALM_S = 0.3
"""Between a registration and the next outage."""


async def outages(place: Path, lasts_s: Sequence[float], cap_s: float) -> list[float]:
    """Seconds from the end of each outage to the registration, for one executor."""
    await asyncio.to_thread(place.mkdir)
    took = []
    async with open_backend() as backend, open_wire(backend.port) as wire:
        env = executor_environment(place, f"http://127.0.0.1:{wire.port}", TOKEN)
        env["LOCAL_RECONNECT_MAX_DELAY"] = f"{cap_s:g}"
        async with program(["-m", "executor.main"], env, place / "executor.stderr"):
            await registered(backend)
            for number, seconds in enumerate(lasts_s):
                await asyncio.sleep(CALM_S)
                over_s = await (refused if number % 2 else silent)(wire, seconds)
                took.append(await registered(backend) - over_s)
    return took


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


async def measure(
    chance: random.Random, executors: int, rounds: int, span_s: tuple[float, float], cap_s: float
) -> list[float]:
    """So many outages of a length within *span_s* per executor, all executors at the same time."""
    with temporary_folder() as place:
        async with asyncio.TaskGroup() as group:
            tasks = []
            for number in range(executors):
                lasts_s = [chance.uniform(*span_s) for _ in range(rounds)]
                tasks.append(group.create_task(outages(place / str(number), lasts_s, cap_s)))
    return [seconds for task in tasks for seconds in task.result()]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Time from an outage's end to the registration")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--executors", type=int, default=4, help="at the same time")
    parser.add_argument("--short", type=int, default=5, help="short outages of each executor")
    parser.add_argument("--long", type=int, default=1, help="outages of 8 to 14 s of each")
    parser.add_argument("--longest", type=int, default=0, help="outages of 60 to 150 s of each")
    options = parser.parse_args()
    report = Report("reconnect: from the end of an outage to the registration")
    chance = random.Random(options.seed)
    for name, rounds, span_s, cap_s, aim_s, judged in (
        ("of 0.1 to 2 s", options.short, SHORT_S, USUAL_CAP_S, AIM_SHORT_S, P95),
        ("of 8 to 14 s, longest pause 3 s", options.long, LONG_S, LOWERED_CAP_S, None, MAX),
        ("of 60 to 150 s, longest pause 30 s", options.longest, LONGEST_S, USUAL_CAP_S, None, MAX),
    ):
        if rounds:
            took = asyncio.run(measure(chance, options.executors, rounds, span_s, cap_s))
            report.add(f"outages {name}", took, "s", aim=aim_s or cap_s + 1, judged=judged)
    report.show(as_json=options.json)


if __name__ == "__main__":
    main()
