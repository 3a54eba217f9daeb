"""End what an agent's process has started, many agents' at once if need be.

Nothing is held while the processes take their time, neither a thread nor the event loop.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Final

import psutil

from executor.agents.process_tree import alive, marked, snapshot

_POLL_S: Final = 0.05
"""Between two looks at a process where the system does not tell of its end."""

_KILL_S: Final = 0.33
"""How long the kernel may take to end what was killed, in each round."""

_ROUNDS: Final = 3
"""What is being ended may start something new meanwhile; so often is looked again."""


async def end(processes: Iterable[psutil.Process], mark: str, *, grace_s: float) -> None:
    """End *processes* and all that carry *mark*: SIGTERM, after *grace_s* seconds SIGKILL.

    What they start meanwhile gets no grace of its own, so that this takes at most a second longer
    than *grace_s*. Never waits for a child of this process in a way that would take its exit status
    from asyncio.
    """
    known = list(processes)
    for _ in range(_ROUNDS):
        known = await _end_once(known, mark, grace_s)
        if not known:
            return
        grace_s = 0.0


def kill(processes: Iterable[psutil.Process], mark: str) -> None:
    """End *processes* and all that carry *mark* at once, without a look whether they do. Blocks."""
    for process in (*processes, *marked(mark)):
        with suppress(psutil.Error):
            process.kill()


async def _end_once(known: list[psutil.Process], mark: str, grace_s: float) -> list[psutil.Process]:
    """One round; returns what is still there and what has come."""
    found = await asyncio.to_thread(_terminate, known, mark, time.monotonic())
    left = []
    if not await _ended(found, grace_s):
        left = await asyncio.to_thread(_kill, found)
        await _ended(left, _KILL_S)
    if not found:
        return []
    return await asyncio.to_thread(_remaining, left, mark, time.monotonic())


def _terminate(known: list[psutil.Process], mark: str, since_s: float) -> list[psutil.Process]:
    """Tell all of them to end; returns those that lived."""
    now = snapshot(since_s)
    # Once more below what is known: it may have started something since it was looked at.
    every = {p.pid: p for p in (*known, *now.below(known), *now.marked(mark))}
    found = [process for process in every.values() if alive(process)]
    for process in found:
        with suppress(psutil.Error):
            process.terminate()
    return found


def _kill(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Kill those that live, and return them."""
    left = [process for process in processes if alive(process)]
    for process in left:
        with suppress(psutil.Error):
            process.kill()
    return left


def _remaining(killed: list[psutil.Process], mark: str, since_s: float) -> list[psutil.Process]:
    left = [process for process in killed if alive(process)]
    return left or snapshot(since_s).marked(mark)


async def _ended(processes: list[psutil.Process], within_s: float) -> bool:
    """Wait until all of them have ended; ``False``: the time was over before."""
    try:
        async with asyncio.timeout(within_s), asyncio.TaskGroup() as group:
            for process in processes:
                group.create_task(_end_of(process))
    except TimeoutError:
        return False
    return True


async def _end_of(process: psutil.Process) -> None:
    try:
        # By now the number may be another's: then this waits in vain, as long as it may.
        descriptor = _open(process.pid)
    except OSError:
        while await asyncio.to_thread(alive, process):  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(_POLL_S)
        return
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(descriptor, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


def _open(pid: int) -> int:
    """A descriptor that can be read once the process *pid* has ended.

    Raises:
        OSError: There is no such process, there are too many open files, or this system has none.
    """
    if sys.platform != "linux":
        raise OSError("only Linux has them")
    return os.pidfd_open(pid)
