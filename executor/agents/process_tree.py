"""Find what an agent's process has started.

Commands of an agent get sessions of their own and survive its death, so several ways lead to them:
the tree below the agent as long as it lives, what was seen there before, a mark that every
descendant inherits in its environment, and on Linux :mod:`.subreaper`. All functions block for
milliseconds.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import psutil

MARK_VARIABLE: Final = "WEGENT_AGENT_PROCESS"
"""Environment variable that holds the mark: one value per agent process, no secret.

Other children of the executor have it too, with :data:`OWN_MARK`, so that none passes for a stray.
"""

OWN_MARK: Final = "executor"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Every process of this machine, as one look has found them."""

    began_s: float
    """By the system's monotonic clock."""
    children: Mapping[int, list[psutil.Process]]
    marks: Mapping[str, list[psutil.Process]]

    def below(self, processes: Iterable[psutil.Process]) -> list[psutil.Process]:
        """Everything below those of *processes* that live."""
        parents = [process.pid for process in processes if alive(process)]
        found: list[psutil.Process] = []
        seen: set[int] = set()
        while parents:
            if (parent := parents.pop()) in seen:
                continue
            seen.add(parent)
            below = self.children.get(parent, [])
            found += below
            parents += [process.pid for process in below]
        return found

    def marked(self, mark: str) -> list[psutil.Process]:
        """Every process that carries *mark* and lives, wherever it was reparented to."""
        return [process for process in self.marks.get(mark, []) if alive(process)]


_looking = threading.Lock()
_latest = Snapshot(float("-inf"), {}, {})


def snapshot(since_s: float) -> Snapshot:
    """All processes, looked at no earlier than *since_s* by the system's monotonic clock.

    A look takes some 0.1 ms per process of the machine: all who wait for one share the next.
    """
    global _latest
    with _looking:
        if _latest.began_s < since_s:
            _latest = _look()
        return _latest


def _look() -> Snapshot:
    began_s = time.monotonic()
    children, marks = defaultdict(list), defaultdict(list)
    # Not `process_iter`: it keeps what it knows of a number after another process has got it.
    for pid in psutil.pids():
        with suppress(psutil.Error, OSError):  # gone meanwhile; another user's environment
            process = psutil.Process(pid)
            children[process.ppid()].append(process)
            mark = process.environ().get(MARK_VARIABLE)
            if mark is not None:
                marks[mark].append(process)
    return Snapshot(began_s, dict(children), dict(marks))


def tree(pid: int, since_s: float) -> list[psutil.Process]:
    """The process *pid* and everything below it, as :func:`snapshot`; empty when it is gone."""
    try:
        root = psutil.Process(pid)
    except psutil.Error:
        return []
    return [root, *snapshot(since_s).below([root])]


def marked(mark: str) -> list[psutil.Process]:
    """Every live process that carries *mark*, wherever it was reparented to."""
    return snapshot(time.monotonic()).marked(mark)


def alive(process: psutil.Process) -> bool:
    """Whether it has not ended yet; a zombie has, and waits for a parent that may never ask."""
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
    own = _below(psutil.Process(), recursive=False)
    adopted = [child for child in own if child.pid != pid and _carries(child, mark)]
    tools = [*adopted, *(process for root in (agent, *adopted) for process in _below(root))]
    for process in tools:
        with suppress(psutil.Error):
            seconds += sum(process.cpu_times()[:4])
    return seconds


def _below(process: psutil.Process, *, recursive: bool = True) -> list[psutil.Process]:
    # For a single process three times as fast as a snapshot.
    try:
        return process.children(recursive=recursive)
    except psutil.Error:
        return []


def _carries(process: psutil.Process, mark: str) -> bool:
    try:
        return process.environ().get(MARK_VARIABLE) == mark and alive(process)
    except (psutil.Error, OSError):
        return False  # gone meanwhile, or another user's
