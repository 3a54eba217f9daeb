"""From a cancel at the backend to the agent's first signal, and to the end of all it had started.

A Socket.IO backend in this process and a real executor. Scripted agents (``tests/fakes``) note when
they are interrupted; the end of every process is seen by the kernel's own notice. In turns: an
agent that speaks, with a background process; one whose command runs; one whose processes ignore
SIGTERM; one that ignores the interrupt as well. Then the real CLI, with a shell command running.

A process that an agent had started is late when it ends after the aim, and left (an orphan) when it
is still there much later; then this ends it. The agent itself may stay, for the next message.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import psutil

if not __package__:  # started as a file: the repository's root belongs on the path, not this folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from bench._diary import Diary
from bench._exits import Exit
from bench._measure import Report
from bench._programs import KEY, command_line, executor_environment, program, temporary_folder
from scripts.scripted_model import ScriptedModel
from shared.protocol.local import LocalEvent
from tests.fakes.backend import TOKEN, FakeBackend, open_backend
from tests.fakes.model import scenario, step
from tests.fakes.scripted_cli import install, script

AIM_SIGNAL_MS = 300.0
AIM_GONE_S = 9.0

LEFT_AFTER_S = 30.0
"""What is still there so long after the cancel is left; what has ended after the aim, but before,
was late."""

LIMIT_S = 60.0
LOOK_S = 0.1

SLEEP_S = 86_400
KINDS: dict[str, dict[str, Any]] = {
    "speaking": {"child_s": SLEEP_S},
    "in a command": {"tool_s": SLEEP_S},
    "stubborn processes": {"tool_s": SLEEP_S, "child_s": SLEEP_S, "stubborn": True},
    "deaf and stubborn": {"tool_s": SLEEP_S, "child_s": SLEEP_S, "stubborn": True, "deaf": True},
}

COMMAND = f"(trap '' TERM; setsid nohup sleep {SLEEP_S} >/dev/null 2>&1 &) ; sleep {SLEEP_S}"
"""For the real CLI: one process that is stubborn and left alone, one that is waited for."""


@dataclass(slots=True)
class Cancelled:
    """What cancels have shown, by kind."""

    signal_ms: dict[str, list[float]] = field(default_factory=dict)
    gone_s: dict[str, list[float]] = field(default_factory=dict)
    late_s: dict[str, list[float]] = field(default_factory=dict)
    """From the cancel to the end of each process that was late."""
    left: Counter[str] = field(default_factory=Counter)
    """How many processes were left."""
    verdicts: Counter[str] = field(default_factory=Counter)

    def add(self, kind: str, signal_ms: float | None, gone_s: float) -> None:
        """One cancel; ``None``: nobody could see the signal."""
        if signal_ms is not None:
            self.signal_ms.setdefault(kind, []).append(signal_ms)
        self.gone_s.setdefault(kind, []).append(gone_s)


class Caller:
    """A backend that dispatches, cancels, and waits for verdicts, several runs at a time."""

    def __init__(self, backend: FakeBackend) -> None:
        self._backend = backend
        self._numbers = count(1)
        self._results: dict[int, asyncio.Future[str]] = {}

    async def listen(self) -> None:
        """Take verdicts in; runs until cancelled."""
        while True:
            result = await self._backend.expect(LocalEvent.RESULT)
            self._results[result["subtask_id"]].set_result(result["status"])

    async def dispatch(self, prompt: str, env: dict[str, str]) -> int:
        """Begin a run in a session of its own; its number."""
        number = next(self._numbers)
        self._results[number] = asyncio.get_running_loop().create_future()
        bot = [{"agent_config": {"env": env}}]
        request = {"task_id": number, "subtask_id": number, "prompt": prompt, "bot": bot}
        answer = await self._backend.send(LocalEvent.DISPATCH, request)
        assert answer["accepted"], answer
        return number

    async def cancel(self, number: int) -> float:
        """Cancel a run; when, by the system's monotonic clock, before anything was sent."""
        at_s = time.monotonic()
        await self._backend.send(LocalEvent.CANCEL, {"task_id": number, "subtask_id": number})
        return at_s

    async def verdict(self, number: int) -> str:
        """The run's status at its end; its session's process is ended too."""
        status = await self._results[number]
        del self._results[number]
        await self._backend.send(LocalEvent.CLOSE, {"task_id": number})
        return status


@asynccontextmanager
async def executor(place: Path, **settings: str) -> AsyncGenerator[tuple[Caller, int]]:
    """A registered executor with these settings, and its process id."""
    await asyncio.to_thread(place.mkdir)
    async with open_backend() as backend:
        env = executor_environment(place, backend.url, TOKEN) | settings
        async with program(["-m", "executor.main"], env, place / "executor.stderr") as running:
            async with asyncio.timeout(LIMIT_S):
                await backend.expect(LocalEvent.REGISTER)
            caller = Caller(backend)
            listening = asyncio.create_task(caller.listen(), name="verdicts")
            try:
                yield caller, running.pid
            finally:
                listening.cancel()


async def scripted(caller: Caller, place: Path, kind: str, seen: Cancelled) -> None:
    """Cancel one scripted agent of this kind."""
    wanted = KINDS[kind]
    children = len({"tool_s", "child_s"} & wanted.keys())
    text = "some words " * (5 if "tool_s" in wanted else 10_000)
    with closing(Diary(place / f"diary-{time.monotonic_ns()}")) as diary:
        prompt = script(text, pieces=len(text) // 20, pause_s=0.05, diary=diary.path, **wanted)
        async with asyncio.timeout(LIMIT_S):
            number = await caller.dispatch(prompt, {"api_key": "none"})
            exits = [Exit((await diary.expect("child"))["pid"]) for _ in range(children)]
            at_s = await caller.cancel(number)
            heard = await diary.expect("interrupt")
    seen.add(kind, (heard["at"] - at_s) * 1000, await all_gone(exits, at_s, kind, seen))
    async with asyncio.timeout(LIMIT_S):
        seen.verdicts[await caller.verdict(number)] += 1


async def real(caller: Caller, executor_pid: int, url: str, seen: Cancelled) -> None:
    """Cancel the real CLI while its shell command runs; one at a time."""
    env = {"base_url": url, "api_key": KEY}
    async with asyncio.timeout(LIMIT_S):
        number = await caller.dispatch("Wait.", env)
        exits = [Exit(pid) for pid in await sleepers_below(executor_pid, 2)]
        at_s = await caller.cancel(number)
    seen.add("real CLI", None, await all_gone(exits, at_s, "real CLI", seen))
    async with asyncio.timeout(LIMIT_S):
        seen.verdicts[await caller.verdict(number)] += 1


async def sleepers_below(pid: int, number: int) -> list[int]:
    """Wait until so many sleepers are below *pid*, at any depth; their shells end with them."""

    def found() -> list[int]:
        below = psutil.Process(pid).children(recursive=True)
        return [p.pid for p in below if command_line(p) == ["sleep", str(SLEEP_S)]]

    while True:
        pids = await asyncio.to_thread(found)
        if len(pids) >= number:
            return pids
        await asyncio.sleep(LOOK_S)


async def all_gone(exits: list[Exit], at_s: float, kind: str, seen: Cancelled) -> float:
    """Seconds from *at_s* to the last end; what is left by then is counted, and killed."""
    gone_s = []
    for exit_ in exits:
        left_s = at_s + LEFT_AFTER_S - time.monotonic()
        if not await exit_.wait(max(left_s, 0.001)):
            seen.left[kind] += 1
            exit_.kill()
        gone_s.append((exit_.at_s or time.monotonic()) - at_s)
        if exit_.at_s is not None and gone_s[-1] > AIM_GONE_S:
            seen.late_s.setdefault(kind, []).append(gone_s[-1])
    return max(gone_s)


async def measure(cancels: int, real_cancels: int, at_once: int) -> Cancelled:
    """All cancels: of scripted agents several at a time, of the real CLI one by one."""
    seen = Cancelled()
    with temporary_folder() as place:
        settings = {"LOCAL_ISOLATION": "none", "LOCAL_MAX_CONCURRENT_TASKS": str(at_once)}
        cli = str(install(place))
        async with executor(place / "fast", WEGENT_CLAUDE_PATH=cli, **settings) as (caller, _):
            kinds = iter(list(KINDS)[number % len(KINDS)] for number in range(cancels))

            async def work() -> None:
                for kind in kinds:
                    await scripted(caller, place, kind, seen)

            async with asyncio.TaskGroup() as group:
                for _ in range(at_once):
                    group.create_task(work())
        if real_cancels:
            call = step({"tool": "Bash", "input": {"command": COMMAND}})
            async with (
                ScriptedModel([scenario(call)]) as model,
                executor(place / "real", **settings) as (caller, pid),
            ):
                for _ in range(real_cancels):
                    await real(caller, pid, model.url, seen)
    return seen


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Time from a cancel to the end of everything")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--cancels", type=int, default=32, help="of scripted agents")
    parser.add_argument("--real", type=int, default=2, help="of the real CLI")
    parser.add_argument("--at-once", type=int, default=8, help="scripted agents at a time")
    options = parser.parse_args()
    report = Report("cancel: from a cancel to the first signal, and to the end of the tree")
    seen = asyncio.run(measure(options.cancels, options.real, options.at_once))
    every = [value for values in seen.signal_ms.values() for value in values]
    if every:
        report.add("cancel to first signal", every, aim=AIM_SIGNAL_MS, judged="p99")
    for kind, values in seen.signal_ms.items():
        report.add(f"cancel to first signal: {kind}", values)
    for kind, values in seen.gone_s.items():
        report.add(f"cancel to tree gone: {kind}", values, "s", aim=AIM_GONE_S, judged="max")
    for kind, values in seen.late_s.items():
        report.add(f"processes late: {kind}", values, "s")
    told = ", ".join(f"{number} {verdict}" for verdict, number in seen.verdicts.items())
    report.note(f"verdicts: {told}")
    report.note(
        f"processes gone late, after {AIM_GONE_S:g} to {LEFT_AFTER_S:g} s: "
        f"{sum(map(len, seen.late_s.values()))}; left after {LEFT_AFTER_S:g} s (orphans): "
        f"{seen.left.total()} {dict(seen.left) or ''}"
    )
    report.show(as_json=options.json)


if __name__ == "__main__":
    main()
