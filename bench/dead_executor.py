"""How soon the manager notices that an executor is dead, and that it notices no other.

A real manager with its usual grant and four real executors: one is killed, one frozen, one is
behind a network that delivers nothing more. The fourth is well. All the time more processes than
cores want to compute; whenever the manager does not show the fourth as online, or the fourth gives
its connection up, that is a false alarm.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import psutil

if not __package__:  # started as a file: the repository's root belongs on the path, not this folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from bench._measure import Report
from bench._programs import (
    clean_environment,
    executor_environment,
    manager,
    program,
    temporary_folder,
    until,
)
from tests.fakes.wire import open_wire

AIM_S = 45.0
NAMES = ("killed", "frozen", "half-open", "well")
BUSY_PER_CORE = 2
LOOK_S = 0.2
LIMIT_S = 120.0
BUSY_SETTLE_S = 2.0

SPIN = "while True: pass"


class Nodes:
    """What the manager says of its executors."""

    def __init__(self, http: aiohttp.ClientSession) -> None:
        self._http = http
        self.looks = 0
        self.false_alarms: list[str] = []
        """When and how the one that is well was not online."""

    async def statuses(self) -> dict[str, str]:
        """The status of each executor, by name."""
        async with self._http.get("/api/v1/nodes") as response:
            nodes = (await response.json())["nodes"]
        return {node["name"]: node["status"] for node in nodes}

    async def all_online(self) -> None:
        """Wait until every executor has registered."""
        async with asyncio.timeout(LIMIT_S):
            await until(self._complete)

    async def _complete(self) -> bool:
        return await self.statuses() == dict.fromkeys(NAMES, "online")

    async def watch(self, dead_at_s: dict[str, float], until_s: float) -> dict[str, float]:
        """Seconds from each death to its notice; watches until all are known, and *until_s*."""
        noticed: dict[str, float] = {}
        while len(noticed) < len(dead_at_s) or time.monotonic() < until_s:
            statuses = await self.statuses()
            now_s = time.monotonic()
            self.looks += 1
            for name, at_s in dead_at_s.items():
                if statuses[name] == "offline":
                    noticed.setdefault(name, now_s - at_s)
                elif now_s - at_s > LIMIT_S:
                    noticed.setdefault(name, float("inf"))
            if statuses["well"] != "online":
                self.false_alarms.append(statuses["well"])
            await asyncio.sleep(LOOK_S)
        return noticed


@asynccontextmanager
async def busy_machine(place: Path) -> AsyncGenerator[None]:
    """More processes that compute than there are cores."""
    async with AsyncExitStack() as stack:
        for _ in range(BUSY_PER_CORE * (psutil.cpu_count() or 1)):
            spinning = program(["-c", SPIN], clean_environment(place), place / "spin.stderr")
            await stack.enter_async_context(spinning)
        yield


async def die(place: Path, busy_s: float) -> tuple[dict[str, float], str]:
    """One round: seconds until each was noticed, and a sentence about the rest."""
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        url, tokens = await enter(manager(place / "manager"))
        wire = await enter(open_wire(int(url.rpartition(":")[2])))
        processes = {}
        for name in NAMES:
            home = place / name
            await asyncio.to_thread(home.mkdir)
            address = f"http://127.0.0.1:{wire.port}" if name == "half-open" else url
            env = executor_environment(home, address, tokens.executor)
            env["WEGENT_EXECUTOR_NAME"] = name
            log = home / "executor.stderr"
            processes[name] = await enter(program(["-m", "executor.main"], env, log))
        headers = {"Authorization": f"Bearer {tokens.api}"}
        nodes = Nodes(await enter(aiohttp.ClientSession(url, headers=headers)))
        await nodes.all_online()
        await enter(busy_machine(place))
        await asyncio.sleep(BUSY_SETTLE_S)
        psutil.cpu_percent()
        began_s = time.monotonic()
        processes["killed"].kill()
        processes["frozen"].send_signal(signal.SIGSTOP)
        wire.freeze()
        dead_at_s = dict.fromkeys(NAMES[:3], began_s)
        try:
            noticed = await nodes.watch(dead_at_s, began_s + busy_s)
        finally:
            processes["frozen"].send_signal(signal.SIGCONT)
            wire.thaw()
        last = place / NAMES[-1] / "executor.stderr"
        said = await asyncio.to_thread(last.read_text)
        return noticed, (
            f"cores busy for {psutil.cpu_percent():.0f} %; the executor that is well, looked at "
            f"{nodes.looks} times: not online {len(nodes.false_alarms)} times, connections that it "
            f"gave up: {said.count('lost the connection')}"
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Time until a dead executor is noticed")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--rounds", type=int, default=1, help="each takes about 45 s")
    parser.add_argument("--busy", type=float, default=0, help="seconds that a round takes at least")
    options = parser.parse_args()
    report = Report("dead executor: how soon it is noticed, on a machine that is busy")
    noticed: dict[str, list[float]] = {}
    for _ in range(options.rounds):
        with temporary_folder() as place:
            times, told = asyncio.run(die(place, options.busy))
        for name, seconds in times.items():
            noticed.setdefault(name, []).append(seconds)
        report.note(told)
    for name, values in noticed.items():
        report.add(f"{name}: until it is offline", values, "s", aim=AIM_S, judged="max")
    report.show(as_json=options.json)


if __name__ == "__main__":
    main()
