"""Find and end what an agent's process has started.

Commands of an agent get sessions of their own and survive its death, so several ways lead to them:
the tree below the agent as long as it lives, what was seen there before, a mark that every
descendant inherits in its environment, and on Linux :mod:`.subreaper`. All functions but
:func:`end` block for milliseconds.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Final

import psutil

MARK_VARIABLE: Final = "WEGENT_AGENT_PROCESS"
"""Environment variable that holds the mark: one value per agent process, no secret.

Other children of the executor have it too, with :data:`OWN_MARK`, so that none passes for a stray.
"""

OWN_MARK: Final = "executor"

_POLL_S: Final = 0.02
_ROUNDS: Final = 3
"""What is being ended may start something new meanwhile; so often is looked again."""


def descendants(pid: int) -> list[psutil.Process]:
    """Everything below *pid*; empty when it is gone."""
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return []


def tree(pid: int) -> list[psutil.Process]:
    """The process *pid* and everything below it; empty when it is gone."""
    try:
        return [psutil.Process(pid), *descendants(pid)]
    except psutil.Error:
        return []


def marked(mark: str) -> list[psutil.Process]:
    """Every live process that carries *mark*, wherever it was reparented to."""
    return [process for process in psutil.process_iter() if _carries(process, mark)]


def _carries(process: psutil.Process, mark: str) -> bool:
    try:
        return process.environ().get(MARK_VARIABLE) == mark and _alive(process)
    except (psutil.Error, OSError):
        return False  # gone meanwhile, or another user's


def _alive(process: psutil.Process) -> bool:
    # A zombie has ended; it only waits for a parent that may never ask.
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def tools_cpu_s(pid: int, mark: str) -> float:
    """CPU seconds of everything below *pid* and of daemons with *mark*; 0 when *pid* is gone.

    What has ended counts through whoever waited for it, *pid* included, whose own time does not
    count. Daemons are seen as far as this process has adopted them.
    """
    try:
        agent = psutil.Process(pid)
        waited_for = agent.cpu_times()
    except psutil.Error:
        return 0.0
    seconds = waited_for.children_user + waited_for.children_system
    adopted = [child for child in _children() if child.pid != pid and _carries(child, mark)]
    for root in (agent, *adopted):
        for process in (*descendants(root.pid), *(() if root is agent else (root,))):
            with suppress(psutil.Error):
                seconds += sum(process.cpu_times()[:4])
    return seconds


def _children() -> list[psutil.Process]:
    try:
        return psutil.Process().children()
    except psutil.Error:
        return []


async def end(processes: Iterable[psutil.Process], mark: str, *, grace_s: float) -> None:
    """End *processes* and all that carry *mark*: SIGTERM, after *grace_s* seconds SIGKILL.

    What they start meanwhile gets no grace of its own, so that this takes at most a second longer
    than *grace_s*. Never waits for a child of this process in a way that would take its exit status
    from asyncio.
    """
    known = list(processes)
    for _ in range(_ROUNDS):
        known = await asyncio.to_thread(_end_once, known, mark, grace_s)
        if not known:
            return
        grace_s = 0.0


def kill(processes: Iterable[psutil.Process], mark: str) -> None:
    """End *processes* and all that carry *mark* at once, without looking whether they do."""
    for process in (*processes, *marked(mark)):
        with suppress(psutil.Error):
            process.kill()


def _end_once(known: list[psutil.Process], mark: str, grace_s: float) -> list[psutil.Process]:
    """One round; returns what is still there and what has come."""
    # Once more below what is known: it may have started something since it was looked at.
    found = {p.pid: p for p in (*known, *_below(known), *marked(mark)) if _alive(p)}
    for process in found.values():
        with suppress(psutil.Error):
            process.terminate()
    left = _wait(list(found.values()), grace_s)
    for process in left:
        with suppress(psutil.Error):
            process.kill()
    left = _wait(left, 1.0 / _ROUNDS)
    return left or marked(mark)


def _below(known: list[psutil.Process]) -> list[psutil.Process]:
    """Everything below those of *known* that live, in one look at all processes."""
    children: dict[int, list[psutil.Process]] = {}
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            children.setdefault(process.ppid(), []).append(process)
    parents = [process.pid for process in known if _alive(process)]
    found = []
    while parents:
        below = children.pop(parents.pop(), [])
        found += below
        parents += [process.pid for process in below]
    return found


def _wait(processes: list[psutil.Process], timeout_s: float) -> list[psutil.Process]:
    deadline = time.monotonic() + timeout_s
    left = [process for process in processes if _alive(process)]
    while left and time.monotonic() < deadline:
        time.sleep(_POLL_S)
        left = [process for process in left if _alive(process)]
    return left
