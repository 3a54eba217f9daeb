"""From the start of the executor to its registration, its memory, and its end when idle.

Each round starts, in turns: an empty Python, one that imports only the libraries of the link, and
the executor against a Socket.IO backend in this process. The executor's home is kept between
rounds, as on a user's machine, and it finds no libraries that an installation would not have.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

if not __package__:  # started as a file: the repository's root belongs on the path, not this folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from bench._measure import Report, arguments
from bench._programs import (
    executor_environment,
    last_words,
    program,
    temporary_folder,
    until,
)
from shared.protocol.local import LocalEvent
from tests.fakes.backend import TOKEN, FakeBackend, open_backend
from tests.fakes.processes import plain_environ

ROUNDS = 15
WARM_UP = 1
LIMIT_S = 30.0

AIM_REGISTERED_MS = 600.0
AIM_RSS_REGISTERED_MB = 60.0
AIM_RSS_LOADED_MB = 100.0
AIM_STOP_MS = 500.0

LIBRARIES = "import socketio, aiohttp, pydantic_settings"

NOT_REQUIRED = ("greenlet",)
"""What the executor's libraries import when they find it, but neither they nor it require: here it
lies about for the manager. An installation of the executor has none."""

EXECUTOR = (
    f"import runpy, sys; sys.modules.update(dict.fromkeys({NOT_REQUIRED!r})); "
    "runpy.run_module('executor.main', run_name='__main__')"
)

SDK_LIBRARY = "rpds"
"""A compiled module that only the SDK brings: once it is mapped, the SDK's import has begun."""

CALM_S = 0.5
"""The import is over when the process has used no processor time for so long."""


@dataclass(frozen=True, slots=True)
class Start:
    """One start and stop of the executor; milliseconds and megabytes (10^6 bytes)."""

    registered_ms: float
    rss_registered_mb: float
    rss_loaded_mb: float
    stop_ms: float


class RegisterWatch:
    """Notes when an executor registers, and its memory at that moment, before it is answered."""

    def __init__(self) -> None:
        self.pid: int | None = None
        self.at = 0.0
        self.rss_mb = 0.0

    def answer(self, _payload: dict[str, Any]) -> dict[str, Any]:
        """The acknowledgement."""
        self.at = time.perf_counter()
        self.rss_mb = rss_mb(self.pid)
        return {"success": True, "features": ["seq_ack", "redispatch"], "acked": []}


async def start_executor(place: Path, backend: FakeBackend, watch: RegisterWatch) -> Start:
    """Start the executor, let it load the SDK, stop it."""
    env = executor_environment(place, backend.url, TOKEN)
    log = place / "executor.stderr"
    began = time.perf_counter()
    async with program(["-c", EXECUTOR], env, log) as running:
        watch.pid = running.pid
        async with asyncio.timeout(LIMIT_S):
            await backend.expect(LocalEvent.REGISTER)
            await sdk_loaded(running.pid)
        loaded = rss_mb(running.pid)
        told = time.perf_counter()
        running.send_signal(signal.SIGTERM)
        await running.wait()
        stopped = time.perf_counter()
        assert running.returncode == 0, last_words(log)
    return Start((watch.at - began) * 1000, watch.rss_mb, loaded, (stopped - told) * 1000)


async def sdk_loaded(pid: int) -> None:
    """Wait until the process has imported the SDK and does nothing more."""
    process = psutil.Process(pid)

    async def importing() -> bool:
        return any(SDK_LIBRARY in mapped.path for mapped in process.memory_maps())

    await until(importing)
    before = -1.0
    while (used := sum(process.cpu_times()[:2])) != before:
        before = used
        await asyncio.sleep(CALM_S)


async def start_python(code: str, place: Path) -> float:
    """Milliseconds that a Python takes to run *code* and end."""
    env = plain_environ(place)
    began = time.perf_counter()
    async with program(["-c", code], env, place / "python.stderr") as running:
        await running.wait()
        return (time.perf_counter() - began) * 1000


def rss_mb(pid: int | None) -> float:
    """Resident memory, shared pages included."""
    return psutil.Process(pid).memory_info().rss / 1e6


async def measure(rounds: int) -> tuple[list[float], list[float], list[Start]]:
    """All starts: of an empty Python, of one with the libraries, of the executor."""
    watch = RegisterWatch()
    empty: list[float] = []
    libraries: list[float] = []
    starts: list[Start] = []
    with temporary_folder() as place:
        async with open_backend(FakeBackend(register_ack=watch.answer)) as backend:
            for number in range(rounds + WARM_UP):
                times = [await start_python(code, place) for code in ("pass", LIBRARIES)]
                start = await start_executor(place, backend, watch)
                if number >= WARM_UP:
                    empty.append(times[0])
                    libraries.append(times[1])
                    starts.append(start)
    return empty, libraries, starts


def main() -> None:
    """Measure and print."""
    options = arguments("Start, memory and stop of the executor", rounds=ROUNDS)
    report = Report("startup: start, memory and stop of the executor")
    empty, libraries, starts = asyncio.run(measure(options.rounds))
    nothing = report.add("python -c pass", empty)
    imports = report.add(f"python -c '{LIBRARIES}'", libraries)
    registered = report.add(
        "start to registered", [s.registered_ms for s in starts], aim=AIM_REGISTERED_MS
    )
    report.add(
        "memory at registration",
        [s.rss_registered_mb for s in starts],
        "MB",
        aim=AIM_RSS_REGISTERED_MB,
    )
    report.add(
        "memory idle, SDK loaded", [s.rss_loaded_mb for s in starts], "MB", aim=AIM_RSS_LOADED_MB
    )
    report.add("SIGTERM when idle to exit", [s.stop_ms for s in starts], aim=AIM_STOP_MS)
    report.note(
        f"start to registered: {registered.median / nothing.median:.1f} times an empty Python, "
        f"{registered.median / imports.median:.2f} times its libraries alone (medians)"
    )
    report.show(as_json=options.json)


if __name__ == "__main__":
    main()
