"""The built program against the same from source: size, times of starting, memory, clean ends.

Each round starts all of them in turns, so that whatever else the machine does hits all. `make
binary` and `make binary OPTIONS=--onedir` build what is measured here; what is missing is left out.
"""

from __future__ import annotations

import asyncio
import resource
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

if not __package__:  # started as a file: the repository's root belongs on the path, not this folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from bench._measure import Report, Summary, arguments
from bench._programs import executor_environment, stop, temporary_folder
from bench.startup import rss_mb, sdk_loaded
from executor.agents.claude_code.location import bundled_claude
from scripts.build_local import parse
from shared.protocol.local import LocalEvent
from tests.fakes.backend import TOKEN, FakeBackend, open_backend
from tests.fakes.processes import ROOT, plain_environ

ROUNDS = 15
WARM_UP = 1
LIMIT_S = 30.0

AIM_FILE_MB = 30.0
AIM_ANSWER_MS = {"file": 350.0, "folder": 100.0}
AIM_REGISTERED_MS = 800.0

SOURCE = "source"


@dataclass(frozen=True, slots=True)
class Form:
    """A way in which the executor is shipped."""

    name: str
    command: tuple[str, ...]
    loader: bool = False
    """Whether the started process only waits for the program, its child."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a question to the program takes: milliseconds, and those of a processor."""

    wall_ms: float
    processor_ms: float


@dataclass(frozen=True, slots=True)
class Start:
    """One start and stop; milliseconds and megabytes (10^6 bytes)."""

    version: Answer
    help: Answer
    registered_ms: float
    rss_registered_mb: float
    rss_loaded_mb: float
    rss_loader_mb: float
    stop_ms: float
    status: int


def forms() -> list[Form]:
    """From source, and what has been built."""
    file, folder = parse([]).executable, parse(["--onedir"]).executable
    built = [
        Form("file", (str(file),), loader=True),
        Form("folder", (str(folder),)),
    ]
    there = [form for form in built if Path(form.command[0]).is_file()]
    return [Form(SOURCE, (sys.executable, "-m", "executor.main")), *there]


async def ask(form: Form, argument: str, place: Path) -> Answer:
    """How long the program takes to answer *argument*."""
    used, began = _used_by_children_s(), time.perf_counter()
    async with _started(form, plain_environ(place), argument) as running:
        assert await running.wait() == 0
        wall_s = time.perf_counter() - began
    return Answer(wall_s * 1000, (_used_by_children_s() - used) * 1000)


def _used_by_children_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


async def start_executor(form: Form, place: Path, backend: FakeBackend) -> Start:
    """Start it, let it register and load the SDK, and stop it."""
    version = await ask(form, "--version", place)
    help_ = await ask(form, "--help", place)
    env = executor_environment(place, backend.url, TOKEN)
    env |= {"TMPDIR": str(place), "WEGENT_CLAUDE_PATH": str(bundled_claude())}
    began = time.perf_counter()
    async with _started(form, env) as running:
        async with asyncio.timeout(LIMIT_S):
            await backend.expect(LocalEvent.REGISTER)
            registered = time.perf_counter()
            program = _program(form, running.pid)
            rss_registered = rss_mb(program)
            await sdk_loaded(program)
        rss_loaded = rss_mb(program)
        rss_loader = rss_mb(running.pid) if form.loader else 0.0
        told = time.perf_counter()
        running.send_signal(signal.SIGTERM)
        status = await running.wait()
        stopped = time.perf_counter()
    return Start(
        version,
        help_,
        (registered - began) * 1000,
        rss_registered,
        rss_loaded,
        rss_loader,
        (stopped - told) * 1000,
        status,
    )


def _program(form: Form, pid: int) -> int:
    return psutil.Process(pid).children()[0].pid if form.loader else pid


@asynccontextmanager
async def _started(
    form: Form, env: dict[str, str], *more: str
) -> AsyncGenerator[asyncio.subprocess.Process]:
    running = await asyncio.create_subprocess_exec(
        *form.command,
        *more,
        cwd=ROOT,
        env=env,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        yield running
    finally:
        await stop(running)


async def measure(rounds: int, measured: list[Form]) -> dict[str, list[Start]]:
    """All starts of each form; fails when one leaves what it has unpacked."""

    def accept(_payload: dict[str, Any]) -> dict[str, Any]:
        return {"success": True, "features": ["seq_ack", "redispatch"], "acked": []}

    starts: dict[str, list[Start]] = {form.name: [] for form in measured}
    with temporary_folder() as place:
        async with open_backend(FakeBackend(register_ack=accept)) as backend:
            for number in range(rounds + WARM_UP):
                for form in measured:
                    start = await start_executor(form, place, backend)
                    if number >= WARM_UP:
                        starts[form.name].append(start)
            assert not list(place.glob("_MEI*")), "an executor has left what it had unpacked"
    return starts


def size_mb(form: Form) -> float:
    """Of what is shipped."""
    path = Path(form.command[0])
    if form.loader:
        return path.stat().st_size / 1e6
    files = (file for file in path.parent.rglob("*") if file.is_file() and not file.is_symlink())
    return sum(file.stat().st_size for file in files) / 1e6


def add(report: Report, form: Form, starts: list[Start]) -> dict[str, Summary]:
    """Add the figures of a form; returns those that are compared."""
    aim = AIM_ANSWER_MS.get(form.name)
    built = form.name != SOURCE
    added = {
        "--version": report.add(
            f"{form.name}: --version", [s.version.wall_ms for s in starts], aim=aim
        ),
        "processor time of --version": report.add(
            f"{form.name}: … processor time", [s.version.processor_ms for s in starts]
        ),
        "--help": report.add(f"{form.name}: --help", [s.help.wall_ms for s in starts], aim=aim),
        "start to registered": report.add(
            f"{form.name}: start to registered",
            [s.registered_ms for s in starts],
            aim=AIM_REGISTERED_MS if built else None,
        ),
        "memory at registration": report.add(
            f"{form.name}: memory at registration", [s.rss_registered_mb for s in starts], "MB"
        ),
        "memory with the SDK": report.add(
            f"{form.name}: memory idle, SDK loaded", [s.rss_loaded_mb for s in starts], "MB"
        ),
    }
    if form.loader:
        report.add(f"{form.name}: memory of its loader", [s.rss_loader_mb for s in starts], "MB")
    report.add(f"{form.name}: SIGTERM when idle to exit", [s.stop_ms for s in starts])
    if built:
        size_aim = AIM_FILE_MB if form.loader else None
        report.add(f"{form.name}: size", [size_mb(form)], "MB", aim=size_aim)
    ends = Counter(start.status for start in starts)
    report.note(f"{form.name}: {ends[0]} of {len(starts)} ended with status 0 on SIGTERM")
    return added


def main() -> None:
    """Measure and print."""
    options = arguments("The built program against the same from source", rounds=ROUNDS)
    measured = forms()
    if len(measured) == 1:
        print("binary: nothing is built; type `make binary` and `make binary OPTIONS=--onedir`")
        return
    report = Report("binary: the built program against the same from source")
    starts = asyncio.run(measure(options.rounds, measured))
    source = add(report, measured[0], starts[SOURCE])
    for form in measured[1:]:
        compared = add(report, form, starts[form.name])
        ratios = (f"{name} {compared[name].median / source[name].median:.2f}" for name in compared)
        report.note(f"{form.name}, as multiples of the same from source: {', '.join(ratios)}")
    report.show(as_json=options.json)


if __name__ == "__main__":
    main()
