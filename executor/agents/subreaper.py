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


def strays(cwd: Path, *, others_live: bool) -> list[psutil.Process]:
    """Adopted children that carry no mark at all, as far as they may be of the agent in *cwd*.

    With *others_live*, agents besides that one, only those that work in *cwd*; otherwise nobody
    else can have started the rest. Children that this process itself starts carry a mark.
    """
    if not _adopts():
        return []
    return [
        child
        for child in psutil.Process().children()
        if _unmarked(child) and (not others_live or _works_in(child, cwd))
    ]


def _unmarked(child: psutil.Process) -> bool:
    try:
        if child.status() == psutil.STATUS_ZOMBIE or MARK_VARIABLE in child.environ():
            return False
        # Between fork and exec it still looks like this process.
        return child.cmdline() != psutil.Process().cmdline()
    except (psutil.Error, OSError):
        return False  # gone, or another user's


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
