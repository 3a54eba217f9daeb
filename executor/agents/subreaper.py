"""On Linux: become the parent of what the agents' commands leave behind, and reap it.

A command that starts a daemon in a session of its own, with an emptied environment, is out of the
agent's tree and carries no mark. As a subreaper this process becomes its parent. All functions but
:func:`adopt` and :func:`reap_forever` block for milliseconds.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

import psutil

from executor.agents.process_tree import MARK_VARIABLE

REAP_AFTER_S: Final = 1.0
"""How long a dead child stays before it counts as nobody's: its starter asks within moments."""

_PR_SET_CHILD_SUBREAPER: Final = 36
_PR_GET_CHILD_SUBREAPER: Final = 37


def adopt(*, on: bool = True) -> bool:
    """Become the parent of orphaned descendants, or with ``on=False`` no more.

    Returns whether this system can do that; without it, marks and trees still find nearly all.
    """
    if sys.platform != "linux":
        return False
    done: int = ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, int(on), 0, 0, 0)
    return done == 0


def _adopts() -> bool:
    if sys.platform != "linux":
        return False
    flag = ctypes.c_int(0)
    ctypes.CDLL(None).prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(flag), 0, 0, 0)
    return bool(flag.value)


@dataclass(frozen=True, slots=True)
class AgentTrace:
    """What tells one agent's strays from those of another."""

    cwd: Path
    began: int | None = None
    """When its process did, in the system's ticks since boot; ``None``: not yet."""

    @classmethod
    def of(cls, pid: int, cwd: Path) -> AgentTrace:
        """The trace of the live process *pid*."""
        return cls(cwd, _began(pid))


def strays(cwd: Path, *, others: Collection[AgentTrace]) -> list[psutil.Process]:
    """Adopted children without a mark, as far as they may be of the agent in *cwd*, which ends.

    Where a child works tells whose it is. One that works elsewhere can be of any agent that had
    begun before it, so it is left alone while one of *others*, the agents that live, had: at the
    latest it ends with the last of those. Children that this process itself starts carry a mark.
    """
    if not _adopts():
        return []
    return [
        child
        for child in psutil.Process().children()
        if _unmarked(child) and (_works_in(child, cwd) or not _may_be_of(child, others))
    ]


def _may_be_of(child: psutil.Process, agents: Collection[AgentTrace]) -> bool:
    began = _began(child.pid)
    return any(
        _works_in(child, agent.cwd)
        or (began is not None and agent.began is not None and agent.began <= began)
        for agent in agents
    )


def _began(pid: int) -> int | None:
    # psutil tells the time of day, which changes for all when the clock is set.
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        return int(stat.rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None


def _unmarked(child: psutil.Process) -> bool:
    try:
        if child.status() == psutil.STATUS_ZOMBIE or MARK_VARIABLE in child.environ():
            return False
    except psutil.AccessDenied:
        # It guards its memory, as `ssh-agent` does; or it is another user's, and not ours to end.
        if not _is_this_users(child):
            return False
    except (psutil.Error, OSError):
        return False  # gone
    try:
        # Between fork and exec it still looks like this process.
        return child.cmdline() != psutil.Process().cmdline()
    except (psutil.Error, OSError):
        return False


def _is_this_users(child: psutil.Process) -> bool:
    try:
        return child.uids().real == os.getuid()
    except (psutil.Error, OSError):
        return False


def _works_in(child: psutil.Process, cwd: Path) -> bool:
    try:
        return Path(child.cwd()).is_relative_to(cwd)
    except (psutil.Error, OSError):
        return False


async def reap_forever(after_s: float = REAP_AFTER_S) -> NoReturn:
    """Reap adopted children that have died, without touching those that somebody waits for.

    Does nothing while no child dies. Asyncio does not use the signal itself.
    """
    died = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGCHLD, died.set)
    try:
        died.set()
        while True:
            await died.wait()
            died.clear()
            dead = await asyncio.to_thread(_reap, ())
            while dead:
                await asyncio.sleep(after_s)
                dead = await asyncio.to_thread(_reap, dead)
    finally:
        loop.remove_signal_handler(signal.SIGCHLD)


def _reap(dead_before: Collection[int]) -> set[int]:
    """Reap what was dead before already; returns what is dead since."""
    dead = {child.pid for child in psutil.Process().children() if _dead(child)}
    for pid in dead.intersection(dead_before):
        with suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
    return dead.difference(dead_before)


def _dead(child: psutil.Process) -> bool:
    try:
        return child.status() == psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
