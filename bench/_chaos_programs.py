"""The system under chaos: a manager and executors that can be killed, each on a bad wire."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import sys
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench._full_disk import SmallDisk, small_disk
from bench._programs import (
    START_TIMEOUT_S,
    ProgramError,
    Tokens,
    announced,
    command_line,
    executor_environment,
    last_words,
    manager_tokens,
    stop,
    until,
)
from bench._wall_clock import WallClock
from tests.fakes.processes import LISTENING, REGISTERED, ROOT, plain_environ
from tests.fakes.scripted_cli import MODEL, install
from tests.fakes.wire import Wire, open_wire

HEARTBEAT_S = 2.0
LEASE_S = 6.0
"""Short, so that leases really end within the frozen moments of a short bench."""

DISK_MB = 32

STOP_TIMEOUT_S = 20.0
"""The grace for runs is 2 s, that for stubborn processes of agents 6 s, that for a backend out of
reach 5 s."""


class Host:
    """One program that is started again after every kill; its faults happen one at a time."""

    def __init__(self, module: str, env: dict[str, str], log: Path) -> None:
        self._module = module
        self.env = env
        self.log = log
        self.lock = asyncio.Lock()
        self.clock: WallClock | None = None
        """What its wall clock can be stepped with, if at all; set before it is started."""
        self.process: asyncio.subprocess.Process | None = None
        self._log_began = 0
        self.crashes: list[str] = []
        """Ends that nobody asked for."""
        self.stops_s: list[float] = []
        """How long each stop took, from SIGTERM to the end."""

    async def start(self) -> None:
        """Start the program; returns when it runs, not when it is ready."""
        with self.log.open("ab") as stderr:
            self._log_began = stderr.tell()
            self.process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                self._module,
                cwd=ROOT,
                env=self.env | (self.clock.environment if self.clock is not None else {}),
                stdout=asyncio.subprocess.PIPE,
                stderr=stderr,
            )

    async def kill(self) -> None:
        """SIGKILL; what it had started stays."""
        process = self._running()
        if process is not None:
            process.kill()
            await process.wait()

    async def stop(self) -> None:
        """SIGTERM once it works, and SIGKILL when that does not end it."""
        process = self._running()
        if process is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(START_TIMEOUT_S):
                    await until(self._has_begun)
            told_s = time.monotonic()
            await stop(process, STOP_TIMEOUT_S)
            self.stops_s.append(time.monotonic() - told_s)
            if process.returncode != 0:
                self.crashes.append(f"{self.log.stem}: exit status {process.returncode} on SIGTERM")

    async def _has_begun(self) -> bool:
        """Whether it has said something: by then it knows what to do on SIGTERM."""
        log = await asyncio.to_thread(self.log.stat)
        return log.st_size > self._log_began

    def _running(self) -> asyncio.subprocess.Process | None:
        process = self.process
        if process is not None and process.returncode is not None:
            self.crashes.append(f"{self.log.stem}: exit status {process.returncode}")
            return None
        return process


class ManagerHost(Host):
    """The manager; it keeps its port."""

    def __init__(self, place: Path) -> None:
        self.home = place / "manager"
        env = {
            **plain_environ(place / "user"),
            "MANAGER_HOME": str(self.home),
            "MANAGER_PORT": "0",
            "MANAGER_HEARTBEAT_INTERVAL": str(HEARTBEAT_S),
            "MANAGER_HEARTBEAT_TIMEOUT": str(LEASE_S),
        }
        super().__init__("executor_manager.main", env, place / "manager.stderr")
        self.url = ""

    async def start(self) -> None:
        """Start it and wait until it answers."""
        await super().start()
        assert self.process is not None
        self.url = await announced(self.process, LISTENING, self.log)
        self.env["MANAGER_PORT"] = self.url.rpartition(":")[2]

    @property
    def tokens(self) -> Tokens:
        """Its tokens, once it has been started."""
        return manager_tokens(self.home)


class ExecutorHost(Host):
    """An executor behind a wire of its own."""

    def __init__(self, place: Path, number: int, wire: Wire, token: str, cli: Path) -> None:
        self.wire = wire
        self.home = place / f"executor-{number}" / "executor"
        self.home.parent.mkdir(exist_ok=True)
        env = executor_environment(self.home.parent, f"http://127.0.0.1:{wire.port}", token)
        env |= {
            "WEGENT_CLAUDE_PATH": str(cli),
            "LOCAL_ISOLATION": "none",
            "LOCAL_RECONNECT_DELAY": "0.2",
            "LOCAL_RECONNECT_MAX_DELAY": "2",
            "LOCAL_SHUTDOWN_GRACE_SECONDS": "2",
            "USER_INPUT_TIMEOUT_SECONDS": "4",
            "CLAUDE_SESSION_IDLE_SECONDS": "2",
        }
        super().__init__("executor.main", env, place / f"executor-{number}.stderr")
        self._cli = str(cli)
        self.disk_lock = asyncio.Lock()
        self.disk: SmallDisk | None = None
        """What the home is on, when it is a small disk."""

    async def registered(self) -> None:
        """Wait for its first registration.

        Raises:
            ProgramError: None came; the text has its last words.
        """
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                await until(self._has_registered)
        except TimeoutError:
            raise ProgramError(f"{self.log.name} ends:\n{last_words(self.log)}") from None

    async def _has_registered(self) -> bool:
        return REGISTERED in await asyncio.to_thread(self.log.read_text)

    def agents(self) -> list[tuple[psutil.Process, str]]:
        """The agents' processes that have a turn in progress, each with the id of its session."""
        if self.process is None:
            return []
        workspaces = self.home / "workspace"
        found = []
        with suppress(psutil.Error, OSError, ValueError):
            taken = turns_in_progress()
            for child in psutil.Process(self.process.pid).children(recursive=True):
                if self._cli in command_line(child) and turn_name(cwd := child.cwd()) in taken:
                    session_id = Path(cwd).relative_to(workspaces).parts[0]
                    found.append((child, session_id))
        return found


def turn_name(cwd: str) -> str:
    """The name that a scripted agent holds as long as it has a turn in this folder."""
    return f"@{MODEL} {hashlib.sha256(os.fsencode(cwd)).hexdigest()}"


def turns_in_progress() -> set[str]:
    """The names that scripted agents hold now; only Linux tells them. Blocks."""
    sockets = Path("/proc/net/unix").read_text(errors="replace").splitlines()
    return {
        f"@{MODEL} {name}" for _, at, name in (s.partition(f"@{MODEL} ") for s in sockets) if at
    }


@dataclass(frozen=True, slots=True)
class ChaosSystem:
    """Everything that runs, below one folder."""

    place: Path
    manager: ManagerHost
    executors: Sequence[ExecutorHost]
    foreign: frozenset[int]
    """Processes that were there before."""

    @property
    def hosts(self) -> tuple[Host, ...]:
        """The manager and the executors."""
        return (self.manager, *self.executors)

    def some_executor(self, chance: random.Random) -> ExecutorHost:
        """One of the executors."""
        return chance.choice(self.executors)

    def leftovers(self) -> list[str]:
        """Processes that belong to this system and should not be there any more."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):
                if process.pid in self.foreign or process.status() == psutil.STATUS_ZOMBIE:
                    continue
                words, cwd = command_line(process), process.cwd()
                if any(str(self.place) in word for word in (*words, cwd)):
                    found.append(f"{process.pid} {' '.join(words)[:100]} in {cwd}")
        return found


@asynccontextmanager
async def open_system(
    place: Path, executors: int, *, small_disks: bool = False, own_clocks: bool = False
) -> AsyncGenerator[ChaosSystem]:
    """Start everything; whatever still runs at the end is stopped.

    Args:
        small_disks: Give each executor's home a disk of its own, which can be filled.
        own_clocks: Give each program a wall clock of its own, which can be stepped.

    Raises:
        DiskNotPermitted: Small disks cannot be had here.
        NoCompiler: Clocks cannot be had here.
    """
    foreign = frozenset(psutil.pids())
    async with AsyncExitStack() as stack:
        (place / "user").mkdir()
        manager = ManagerHost(place)
        if own_clocks:
            manager.clock = await asyncio.to_thread(WallClock, place, "manager")
        stack.push_async_callback(manager.stop)
        await manager.start()
        port, cli = int(manager.env["MANAGER_PORT"]), install(place)
        hosts = []
        for number in range(executors):
            wire = await stack.enter_async_context(open_wire(port))
            host = ExecutorHost(place, number, wire, manager.tokens.executor, cli)
            if own_clocks:
                host.clock = await asyncio.to_thread(WallClock, place, f"executor-{number}")
            if small_disks:
                host.disk = await stack.enter_async_context(small_disk(host.home, DISK_MB))
            stack.push_async_callback(host.stop)
            await host.start()
            hosts.append(host)
        for host in hosts:
            await host.registered()
        yield ChaosSystem(place, manager, hosts, foreign)
