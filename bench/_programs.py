"""The programs under measurement, each as the process it is in use."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import tempfile
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from scripts.manager_client import ManagerClient
from tests.fakes.processes import LISTENING, ROOT, plain_environ

START_TIMEOUT_S = 90.0
STOP_TIMEOUT_S = 10.0
POLL_S = 0.1

KEY = "scripted-model-key"
ANSWER = {"name": "short answer", "steps": [{"content": [{"text": "Hello."}]}]}
"""What the model says at once to every prompt."""


class ProgramError(Exception):
    """A program did not do what a measurement needs; the text has its last words."""


@contextmanager
def temporary_folder() -> Generator[Path]:
    """For homes, workspaces and logs; removed at the end."""
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


async def knows_a_node(client: ManagerClient) -> bool:
    """Whether an executor has registered there."""
    return bool(await client.nodes())


async def until(happened: Callable[[], Awaitable[bool]]) -> None:
    """Ask another process again and again, since it has no way to tell; bounded by the caller."""
    while not await happened():  # noqa: ASYNC110 - nothing in this process could set an event
        await asyncio.sleep(POLL_S)


def executor_environment(home: Path, backend_url: str, token: str) -> dict[str, str]:
    """What the executor is started with; its home is ``{home}/executor``."""
    return {
        **plain_environ(home),
        "EXECUTOR_MODE": "local",
        "WEGENT_EXECUTOR_HOME": str(home / "executor"),
        "WEGENT_BACKEND_URL": backend_url,
        "WEGENT_AUTH_TOKEN": token,
    }


@asynccontextmanager
async def program(
    arguments: Sequence[str], env: Mapping[str, str], log: Path
) -> AsyncGenerator[asyncio.subprocess.Process]:
    """A Python program with *arguments*; its stderr goes to *log*; told to stop at the end."""
    with log.open("ab") as stderr:
        running = await asyncio.create_subprocess_exec(
            sys.executable,
            *arguments,
            cwd=ROOT,
            env=dict(env),
            stdout=asyncio.subprocess.PIPE,
            stderr=stderr,
            limit=2**24,
        )
    try:
        yield running
    finally:
        await stop(running)


async def stop(running: asyncio.subprocess.Process, timeout_s: float = STOP_TIMEOUT_S) -> None:
    """SIGTERM, and SIGKILL when that does not end it within *timeout_s*."""
    if running.returncode is None:
        running.send_signal(signal.SIGTERM)
    try:
        async with asyncio.timeout(timeout_s):
            await running.wait()
    except TimeoutError:
        running.kill()
        await running.wait()


async def announced(running: asyncio.subprocess.Process, beginning: str, log: Path) -> str:
    """The rest of the first line of its stdout that begins like this."""
    assert running.stdout is not None
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            async for raw in running.stdout:
                if (line := raw.decode().strip()).startswith(beginning):
                    return line.removeprefix(beginning).strip()
    except TimeoutError:
        pass
    raise ProgramError(f"no {beginning!r} was announced; {log.name} ends:\n{last_words(log)}")


def command_line(process: psutil.Process) -> list[str]:
    """The words of its command line; none when it has ended."""
    with suppress(psutil.Error):
        return process.cmdline()
    return []


def last_words(log: Path) -> str:
    """The end of what a program wrote to its stderr."""
    return log.read_text(errors="replace")[-2000:] if log.exists() else ""


@asynccontextmanager
async def scripted_model(place: Path) -> AsyncGenerator[str]:
    """The stand-in for the Messages API; gives its address. It answers :data:`ANSWER`."""
    scenario = place / "scenario.json"
    scenario.write_text(json.dumps(ANSWER))
    log = place / "model.stderr"
    arguments = [str(ROOT / "scripts" / "scripted_model.py"), "--scenario", str(scenario)]
    async with program(arguments, plain_environ(place), log) as running:
        yield await announced(running, "scripted model listening on", log)


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a manager has made at its first start."""

    api: str
    executor: str


def manager_tokens(home: Path) -> Tokens:
    """The tokens of the manager that has this home."""
    return Tokens(*((home / name).read_text().strip() for name in ("api-token", "executor-token")))


@asynccontextmanager
async def manager(home: Path) -> AsyncGenerator[tuple[str, Tokens]]:
    """The executor manager; gives its address and its tokens."""
    log = home.with_suffix(".stderr")
    env = {**plain_environ(home.parent), "MANAGER_HOME": str(home), "MANAGER_PORT": "0"}
    async with program(["-m", "executor_manager.main"], env, log) as running:
        yield await announced(running, LISTENING, log), manager_tokens(home)
