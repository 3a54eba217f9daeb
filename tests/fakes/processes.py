"""The manager and the executor as the programs that an operator starts, and what a test asks them.

Each is a process of its own with an environment made from nothing, so that no setting, login or
proxy of whoever runs the tests shows. Nothing is guessed: a program is ready when it says so.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from scripts.manager_client import ManagerClient
from tests.fakes.runs import FinishedRun, LiveRun

ROOT = Path(__file__).parents[2]

START_SECONDS = 60.0
STOP_SECONDS = 40.0
"""Bounds; a start takes about two seconds, a stop a fraction of one."""

LISTENING = "executor manager listening on "
REGISTERED = "registered at "

INHERITED = ("PATH", "LANG", "LC_ALL", "SYSTEMROOT")
MODULE = ("-m", "executor.main")


def plain_environ(user_home: Path, **variables: str) -> dict[str, str]:
    """The environment of a user who has set nothing but *variables*."""
    user_home.mkdir(parents=True, exist_ok=True)
    inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
    return {**inherited, "HOME": str(user_home), "GIT_CONFIG_NOSYSTEM": "1", **variables}


class Program:
    """A running program; every line that it prints is kept, stdout and stderr together."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[str] = []
        self._complete = False
        self._more = asyncio.Condition()
        self._reading = asyncio.create_task(self._read(), name=f"output of {process.pid}")

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def output(self) -> str:
        """All that it has printed so far."""
        return "\n".join(self.lines)

    async def says(self, text: str, *, times: int = 1) -> str:
        """Wait for the line that is the *times*-th with *text* in it; fails when it ends before."""

        def found() -> list[str]:
            return [line for line in self.lines if text in line]

        async with self._more:
            await self._more.wait_for(lambda: len(found()) >= times or self._complete)
        if len(found()) < times:
            raise AssertionError(f"it ended without saying {text!r}:\n{self.output}")
        return found()[times - 1]

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to this program alone."""
        self.process.send_signal(number)

    async def ended(self) -> int:
        """Wait for its end and for the last of its output; the exit status."""
        status = await self.process.wait()
        await self._reading
        return status

    async def stop(self) -> None:
        """Tell it to stop; one that does not is killed, and the test fails."""
        if self.process.returncode is None:
            self.signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await self.ended()
        except TimeoutError:
            for process in (*family(self.pid), psutil.Process(self.pid)):
                process.kill()
            await self.ended()
            raise AssertionError(f"it did not stop:\n{self.output}") from None

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for raw in self.process.stdout:
            async with self._more:
                self.lines.append(raw.decode(errors="replace").rstrip("\n"))
                self._more.notify_all()
        async with self._more:
            self._complete = True
            self._more.notify_all()


def family(pid: int) -> list[psutil.Process]:
    """Everything that the process *pid* has started, at any depth."""
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


async def gone(processes: Sequence[psutil.Process]) -> bool:
    """Whether these processes vanish within a moment."""
    _, alive = await asyncio.to_thread(psutil.wait_procs, processes, timeout=20.0)
    return not alive


@asynccontextmanager
async def running(
    *arguments: str, env: dict[str, str], cwd: Path = ROOT, executable: str = sys.executable
) -> AsyncIterator[Program]:
    """Start Python, or another program, with *arguments*; it is stopped at the end."""
    program = Program(
        await asyncio.create_subprocess_exec(
            executable,
            *arguments,
            cwd=cwd,
            env=env,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            limit=2**20,
        )
    )
    try:
        yield program
    finally:
        await program.stop()


@dataclass(frozen=True)
class ManagerProcess:
    """A manager that answers."""

    url: str
    home: Path
    client: ManagerClient
    program: Program

    @property
    def executor_token(self) -> str:
        return (self.home / "executor-token").read_text().strip()

    @property
    def api_token(self) -> str:
        return (self.home / "api-token").read_text().strip()

    @asynccontextmanager
    async def following(
        self, prompt: str, config: dict[str, Any] | None = None, session_id: str | None = None
    ) -> AsyncIterator[LiveRun]:
        """Make a task and follow it."""
        live = LiveRun(self.client, await self.client.create_task(prompt, config or {}, session_id))
        try:
            yield live
        finally:
            await live.close()

    async def run(
        self, prompt: str, config: dict[str, Any] | None = None, session_id: str | None = None
    ) -> FinishedRun:
        """Make a task and follow it to its verdict."""
        async with self.following(prompt, config, session_id) as live:
            return await live.finished()


@asynccontextmanager
async def manager_process(home: Path, **variables: str) -> AsyncIterator[ManagerProcess]:
    """Start a manager, its home and its user's home in *home*; on a free port unless told."""
    usual = {"MANAGER_HOME": str(home), "MANAGER_PORT": "0"}
    env = plain_environ(home / "user", **(usual | variables))
    async with running("-m", "executor_manager.main", env=env) as program:
        async with asyncio.timeout(START_SECONDS):
            url = (await program.says(LISTENING)).partition(LISTENING)[2]
        token = (home / "api-token").read_text().strip()
        async with ManagerClient(url, token) as client:
            yield ManagerProcess(url, home, client, program)


@dataclass(frozen=True)
class ExecutorProcess:
    """An executor, registered or not."""

    home: Path
    program: Program

    @property
    def workspace(self) -> Path:
        return self.home / "workspace"

    @property
    def log(self) -> str:
        return (self.home / "logs" / "executor.log").read_text()

    async def registered(self, times: int = 1) -> None:
        """Wait until it has registered this often."""
        async with asyncio.timeout(START_SECONDS):
            await self.program.says(REGISTERED, times=times)


def executor_environ(home: Path, backend_url: str, token: str, **variables: str) -> dict[str, str]:
    """What an operator sets for an executor in *home* that may clone ``file://``."""
    usual = {
        "EXECUTOR_MODE": "local",
        "WEGENT_EXECUTOR_HOME": str(home),
        "WEGENT_BACKEND_URL": backend_url,
        "WEGENT_AUTH_TOKEN": token,
        "LOCAL_ALLOW_LOCAL_REPOSITORIES": "true",
    }
    return plain_environ(home / "user", **(usual | variables))


@asynccontextmanager
async def executor_process(
    home: Path,
    backend_url: str,
    token: str,
    *,
    command: Sequence[str] = MODULE,
    executable: str = sys.executable,
    **variables: str,
) -> AsyncIterator[ExecutorProcess]:
    """Start an executor; it is not waited for: see :meth:`ExecutorProcess.registered`."""
    home.mkdir(parents=True, exist_ok=True)
    env = executor_environ(home, backend_url, token, **variables)
    async with running(*command, env=env, executable=executable) as program:
        yield ExecutorProcess(home, program)


@asynccontextmanager
async def system(
    place: Path, **variables: str
) -> AsyncIterator[tuple[ManagerProcess, ExecutorProcess]]:
    """A manager and an executor that is registered there; *variables* are the executor's."""
    async with manager_process(place / "manager") as manager:
        token = manager.executor_token
        home = place / "executor"
        async with executor_process(home, manager.url, token, **variables) as executor:
            await executor.registered()
            yield manager, executor
