"""Faults by the hundred while runs go on; afterwards every run must be whole.

A manager, executors and a bad wire before each of them are real processes and real connections; the
agents are cheap stand-ins for the CLI. From a printed seed come TCP cuts, half-open freezes,
latency, refused connections, SIGKILL of manager, executors and agents, executors told to stop, full
disks and wrong clocks, while runs stream, use tools, ask, are cancelled, or follow each other in
one session. Then every run is checked: one verdict, and something done to it that explains it;
``seq`` and ``sequence`` without gap or repeat, in the database and in the stream that was followed
all the time; text equal to its chunks; no message left open; no process left; no secret in any file
but those meant for it. Exit status 1 when anything does not hold.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from collections.abc import Mapping
from pathlib import Path

if not __package__:  # started as a file: the repository's root belongs on the path, not this folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from bench._chaos_checks import check_run, holders, read_runs
from bench._chaos_faults import inject, schedule
from bench._chaos_load import Load, Work
from bench._chaos_outcome import Outcome
from bench._chaos_programs import ChaosSystem, open_system
from bench._measure import describe_machine
from bench._programs import temporary_folder

SETTLE_S = 120.0
"""How long after the last fault the last run may take."""

LEFTOVER_GRACE_S = 10.0


async def chaos(
    place: Path,
    *,
    seed: int,
    seconds: float,
    counts: Mapping[str, int],
    executors: int = 2,
    workers: int = 8,
) -> Outcome:
    """Run it once in the empty folder *place*.

    Args:
        seconds: How long faults happen.
        counts: How many of each kind; see :data:`bench._chaos_faults.FAULTS`.
        workers: How many callers make runs, each one or two at a time.
    """
    outcome = Outcome(seed, counts)
    began = time.monotonic()
    async with open_system(
        place,
        executors,
        small_disks=counts.get("full disk", 0) > 0,
        own_clocks=counts.get("clock step", 0) > 0,
    ) as system:
        tokens = system.manager.tokens
        load = Load(seed, system.manager.url, tokens.api, workers)
        async with asyncio.TaskGroup() as group:
            working = group.create_task(load.run(), name="load")
            outcome.hits = await inject(system, schedule(seed, seconds, counts), load.works)
            await asyncio.sleep(max(0.0, began + seconds - time.monotonic()))
            load.stop()
            _, unfinished = await asyncio.wait({working}, timeout=SETTLE_S)
            if unfinished:
                left = sum(not work.closed for work in load.works)
                outcome.violations.append(f"{left} runs have no end after {SETTLE_S:.0f} s")
                working.cancel()
        for host in reversed(system.hosts):
            await host.stop()
            outcome.violations += host.crashes
        outcome.stops_s = [stop_s for host in system.executors for stop_s in host.stops_s]
        await _check(outcome, system, load.works)  # before the small disks vanish
    outcome.seconds = time.monotonic() - began
    return outcome


async def _check(outcome: Outcome, system: ChaosSystem, works: list[Work]) -> None:
    tokens = system.manager.tokens
    runs = await asyncio.to_thread(read_runs, system.manager.home / "manager.db")
    for work in works:
        run = runs.get(work.task_id)
        if run is not None:
            outcome.count(work, run)
        complaints = check_run(work, run, outcome.hits)
        outcome.violations += [f"run {work.number} ({work.task_id}): {c}" for c in complaints]
    if unknown := set(runs) - {work.task_id for work in works}:
        outcome.violations.append(f"{len(unknown)} runs that nobody has made")
    give_up_at = time.monotonic() + LEFTOVER_GRACE_S
    while left := await asyncio.to_thread(system.leftovers):
        if time.monotonic() > give_up_at:
            break
        await asyncio.sleep(0.5)
    outcome.violations += [f"process left: {process}" for process in left]
    meant_for = {tokens.api: "api-token", tokens.executor: "executor-token"}
    secrets = [*(work.key for work in works), *meant_for]
    found = await asyncio.to_thread(lambda: list(holders(system.place, secrets, meant_for)))
    outcome.violations += found


def main() -> int:
    """Read the command line, run, print; the exit status."""
    parser = argparse.ArgumentParser(description="Chaos: faults while runs go on.")
    parser.add_argument("--seed", type=int, default=None, help="default: a new one, printed")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--cuts", type=int, default=16, help="TCP cuts")
    parser.add_argument(
        "--kills", type=int, default=2, help="of manager, executors, agents; drains"
    )
    parser.add_argument("--full-disks", type=int, default=0, help="needs the right to mount")
    parser.add_argument("--clock-steps", type=int, default=0, help="needs a C compiler")
    parser.add_argument("--executors", type=int, default=2)
    parser.add_argument("--workers", type=int, default=8, help="callers, each with one or two runs")
    parser.add_argument("--keep", type=Path, help="work in this new folder and leave it there")
    options = parser.parse_args()
    seed = random.SystemRandom().getrandbits(32) if options.seed is None else options.seed
    print(f"chaos with --seed {seed}\n", flush=True)
    counts = {
        "cut": options.cuts,
        "freeze": options.cuts // 10,
        "slow": options.cuts // 10,
        "refuse": options.cuts // 10,
        "kill manager": options.kills,
        "kill agent": options.kills,
        "kill executor": options.kills,
        "drain executor": options.kills,
        "full disk": options.full_disks,
        "clock step": options.clock_steps,
    }
    with temporary_folder() as folder:
        place = folder
        if options.keep is not None:
            options.keep.mkdir(mode=0o700)
            place = options.keep.resolve()
        outcome = asyncio.run(
            chaos(
                place,
                seed=seed,
                seconds=options.seconds,
                counts=counts,
                executors=options.executors,
                workers=options.workers,
            )
        )
    for name, value in describe_machine().items():
        print(f"  {name:20} {value}")
    print("\n" + "\n".join(outcome.text()))
    return 1 if outcome.violations else 0


if __name__ == "__main__":
    sys.exit(main())
