"""2,000 text deltas per second from an agent to the manager's log: do the event loops keep up?

A scripted agent in one process, behind the executor's real supervisor, reporter, outbox and
socket; the real manager in another. Both loops are watched, and so is that of a third process that
does nothing else, to show how late the machine itself is. Three times: as the product does it
(deltas merged for up to 50 ms), with every delta an event of its own, and the same while somebody
follows it live.

Fails when what the log holds is not what was sent; times are only reported.
"""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if not __package__:  # started as a file: the repository's root belongs on the path, not this folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from bench._lag import Sample, processor_share, within
from bench._measure import Report, arguments
from bench._programs import (
    announced,
    knows_a_node,
    manager_tokens,
    program,
    stop,
    temporary_folder,
    until,
)
from bench._throughput_sides import delta
from scripts.manager_client import ManagerClient
from tests.fakes.processes import LISTENING, ROOT, plain_environ

PER_SECOND = 2000
SECONDS = 10.0
LIMIT_S = 120.0

AIM_LAG_MS = 50.0


@dataclass(frozen=True, slots=True)
class Case:
    """One way to do it."""

    name: str
    merged: bool
    followed: bool


CASES = (
    Case("merged", merged=True, followed=False),
    Case("single", merged=False, followed=False),
    Case("single, followed", merged=False, followed=True),
)


@dataclass(slots=True)
class Outcome:
    """What was seen of one case."""

    executor: dict[str, Any]
    manager: dict[str, Any]
    idle: dict[str, Any]
    events: int
    faults: list[str]


async def run(case: Case) -> Outcome:
    """One case, with processes of its own."""
    script = str(ROOT / "bench" / "_throughput_sides.py")
    async with AsyncExitStack() as stack:
        place = stack.enter_context(temporary_folder())
        env = plain_environ(place)

        async def start(side: str, **options: Any) -> asyncio.subprocess.Process:
            argument = json.dumps({"side": side, **options})
            log = place / f"{side}.stderr"
            return await stack.enter_async_context(program([script, argument], env, log))

        manager = await start("manager", home=str(place / "manager"))
        url = await announced(manager, LISTENING, place / "manager.stderr")
        tokens = manager_tokens(place / "manager")
        idle = await start("idle")
        executor = await start(
            "executor",
            home=str(place),
            url=url,
            token=tokens.executor,
            per_second=PER_SECOND,
            seconds=SECONDS,
            merged=case.merged,
        )
        client = await stack.enter_async_context(ManagerClient(url, tokens.api))
        async with asyncio.timeout(LIMIT_S):
            await until(lambda: knows_a_node(client))
            task_id = (await client.create_task("deltas", {}))["task_id"]
            follower = asyncio.create_task(_read(client, task_id)) if case.followed else None
            await until(lambda: _is_over(client, task_id))
            live = await follower if follower is not None else None
            stored = await _read(client, task_id)
        seen = []
        for process in (executor, manager, idle):
            await stop(process)
            assert process.stdout is not None
            seen.append(json.loads((await process.stdout.read()).splitlines()[-1]))
    faults = check(stored)
    if live is not None and live != stored:
        faults.append("the live stream differs from the log")
    return Outcome(
        executor=seen[0], manager=seen[1], idle=seen[2], events=len(stored), faults=faults
    )


async def _is_over(client: ManagerClient, task_id: str) -> bool:
    return (await client.task(task_id))["status"] in ("completed", "failed")


async def _read(client: ManagerClient, task_id: str) -> list[dict[str, Any]]:
    return [event async for event in client.events(task_id)]


def check(stored: list[dict[str, Any]]) -> list[str]:
    """What is wrong with the log: gaps, lost, repeated or changed text."""
    faults = []
    if [event["sequence"] for event in stored] != list(range(1, len(stored) + 1)):
        faults.append("the log's sequence has gaps")
    chunks = [event["data"] for event in stored if event["event"]["action"] == "stream"]
    if "".join(chunk["content"] for chunk in chunks) != "".join(
        delta(number) for number in range(round(PER_SECOND * SECONDS))
    ):
        faults.append("the log's text is not what was sent")
    return faults


def main() -> int:
    """Measure and print; 1 when something did not arrive as it was sent."""
    options = arguments("Event loops under many text deltas", rounds=1)
    report = Report(f"throughput: {PER_SECOND} text deltas per second for {SECONDS:g} s")
    faults: list[str] = []
    for case in CASES * options.rounds:
        outcome = asyncio.run(run(case))
        faults += [f"{case.name}: {fault}" for fault in outcome.faults]
        begin, end = outcome.executor["began"], outcome.executor["acknowledged"]
        sides: dict[str, list[Sample]] = {
            "executor": outcome.executor["samples"],
            "manager": outcome.manager["samples"],
        }
        for name, samples in sides.items():
            report.add(
                f"{case.name}: loop lag, {name}",
                within(samples, begin, end),
                aim=AIM_LAG_MS,
                judged="max",
            )
        report.add(
            f"{case.name}: loop lag, idle process", within(outcome.idle["samples"], begin, end)
        )
        waited = end - outcome.executor["last_told"]
        report.add(f"{case.name}: last delta to all acknowledged", [waited * 1000])
        shares = ", ".join(
            f"{name} {processor_share(samples, begin, end):.0%}" for name, samples in sides.items()
        )
        report.note(f"{case.name}: {outcome.events} events in the log; of one core: {shares}")
    report.note("text in the logs equals what was sent" if not faults else "; ".join(faults))
    report.show(as_json=options.json)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
