"""How soon the manager notices that an executor is dead, and that it takes no other for dead.

A real manager with its usual grant and real executors: one is killed, one frozen, one is behind a
network that delivers nothing more; once all three are noticed they come back, and it begins again.
The others are well. All the time more processes than cores want to compute; whenever the manager
does not show a well one as online, or a well one gives its connection up, that is a false alarm.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import time
from collections.abc import AsyncGenerator, Collection
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import psutil

if not __package__:  # started as a file: the repository's root belongs on the path, not this folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from bench._measure import Report
from bench._programs import (
    executor_environment,
    manager,
    program,
    temporary_folder,
)
from scripts.manager_client import ManagerClient
from tests.fakes.processes import plain_environ
from tests.fakes.wire import Wire, open_wire

AIM_S = 45.0
DYING = ("killed", "frozen", "half-open")
BUSY_PER_CORE = 2
LOOK_S = 0.2
LIMIT_S = 120.0

SETTLE_S = 2.0
"""So long everybody is online before the next death, and the machine busy before the first."""

SPIN = "while True: pass"


class Nodes:
    """What the manager says of its executors; those not in :data:`DYING` are well."""

    def __init__(self, client: ManagerClient, names: Collection[str]) -> None:
        self._client = client
        self._online = dict.fromkeys(names, "online")
        self.leases: set[tuple[str, str]] = set()
        """Leases of those that are well: whose, and the heartbeat that it began with."""
        self.false_alarms: set[tuple[str, str]] = set()
        """Those of them that the manager has ended."""

    async def statuses(self) -> dict[str, str]:
        """The status of each executor, by name."""
        nodes = await self._client.nodes()
        for node in nodes:
            if node["name"] not in DYING:
                lease = node["name"], node["last_heartbeat"]
                self.leases.add(lease)
                if node["status"] != "online":
                    self.false_alarms.add(lease)
        return {node["name"]: node["status"] for node in nodes}

    async def all_online(self, for_s: float) -> None:
        """Wait until every executor has been online for so long."""
        async with asyncio.timeout(LIMIT_S):
            since_s: float | None = None
            while since_s is None or time.monotonic() < since_s + for_s:
                if await self.statuses() != self._online:
                    since_s = None
                elif since_s is None:
                    since_s = time.monotonic()
                await asyncio.sleep(LOOK_S)

    async def watch(self, dead: Collection[str], died_s: float) -> dict[str, float]:
        """Seconds from the death of these until each was noticed; infinite after a long time."""
        noticed: dict[str, float] = {}
        while len(noticed) < len(dead):
            statuses = await self.statuses()
            passed_s = time.monotonic() - died_s
            for name in dead:
                if statuses[name] == "offline":
                    noticed.setdefault(name, passed_s)
                elif passed_s > LIMIT_S:
                    noticed.setdefault(name, float("inf"))
            await asyncio.sleep(LOOK_S)
        return noticed


class Fleet:
    """The executors, each in a folder of its own below one place."""

    def __init__(self, stack: AsyncExitStack, place: Path, url: str, token: str) -> None:
        self._stack = stack
        self._place = place
        self._url = url
        self._token = token
        self._processes: dict[str, asyncio.subprocess.Process] = {}

    async def start(self, name: str, wire: Wire) -> None:
        """Start one, behind *wire* when it is the one that will be half-open."""
        home = self._place / name
        await asyncio.to_thread(lambda: home.mkdir(exist_ok=True))
        address = f"http://127.0.0.1:{wire.port}" if name == "half-open" else self._url
        env = executor_environment(home, address, self._token) | {"WEGENT_EXECUTOR_NAME": name}
        running = program(["-m", "executor.main"], env, self._log(name))
        self._processes[name] = await self._stack.enter_async_context(running)

    def die(self, wire: Wire) -> None:
        """Three deaths at once."""
        self._processes["killed"].kill()
        self._processes["frozen"].send_signal(signal.SIGSTOP)
        wire.freeze()

    async def come_back(self, wire: Wire) -> None:
        """Undo :meth:`die`."""
        wire.thaw()
        self._processes["frozen"].send_signal(signal.SIGCONT)
        await self._processes["killed"].wait()
        await self.start("killed", wire)

    def connections_given_up(self) -> int:
        """How often those that are well have lost their connections. Blocks."""
        logs = [self._log(name) for name in self._processes if name not in DYING]
        return sum(log.read_text().count("lost the connection") for log in logs)

    def _log(self, name: str) -> Path:
        return self._place / f"{name}.stderr"


@asynccontextmanager
async def busy_machine(place: Path) -> AsyncGenerator[None]:
    """More processes that compute than there are cores."""
    async with AsyncExitStack() as stack:
        for _ in range(BUSY_PER_CORE * (psutil.cpu_count() or 1)):
            spinning = program(["-c", SPIN], plain_environ(place), place / "spin.stderr")
            await stack.enter_async_context(spinning)
        yield


async def measure(place: Path, well: int, seconds: float) -> tuple[dict[str, list[float]], str]:
    """Deaths for so long, but at least once; seconds to each notice, and what of the others."""
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        url, tokens = await enter(manager(place / "manager"))
        wire = await enter(open_wire(int(url.rpartition(":")[2])))
        names = [*DYING, *(f"well-{number}" for number in range(well))]
        fleet = Fleet(stack, place, url, tokens.executor)
        for name in names:
            await fleet.start(name, wire)
        nodes = Nodes(await enter(ManagerClient(url, tokens.api)), names)
        await nodes.all_online(0)
        await enter(busy_machine(place))
        noticed: dict[str, list[float]] = {name: [] for name in DYING}
        began_s = time.monotonic()
        psutil.cpu_percent()
        while not noticed["killed"] or time.monotonic() < began_s + seconds:
            await nodes.all_online(SETTLE_S)
            died_s = time.monotonic()
            fleet.die(wire)
            try:
                times = await nodes.watch(DYING, died_s)
            finally:
                await fleet.come_back(wire)
            for name, passed_s in times.items():
                noticed[name].append(passed_s)
        given_up = await asyncio.to_thread(fleet.connections_given_up)
        return noticed, (
            f"false alarms: {len(nodes.false_alarms) + given_up} of {len(nodes.leases)} leases of "
            f"{well} executors that are well (ended by the manager: {len(nodes.false_alarms)}, "
            f"connections given up: {given_up}), in {time.monotonic() - began_s:.0f} s with the "
            f"cores busy for {psutil.cpu_percent():.0f} %"
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Time until a dead executor is noticed")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--seconds", type=float, default=0, help="how long; default: one round")
    parser.add_argument("--well", type=int, default=4, help="executors that do not die")
    options = parser.parse_args()
    report = Report("dead executor: how soon it is noticed, on a machine that is busy")
    with temporary_folder() as place:
        noticed, told = asyncio.run(measure(place, options.well, options.seconds))
    for name, values in noticed.items():
        report.add(f"{name}: until it is offline", values, "s", aim=AIM_S, judged="max")
    report.note(told)
    report.show(as_json=options.json)


if __name__ == "__main__":
    main()
