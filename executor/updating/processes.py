"""Who runs from the file that is to be exchanged.

A built program reads parts of its own file when it first needs them: exchanged while it runs, it
would read the parts of another version.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

import psutil

_EXECUTOR: Final[tuple[list[str], ...]] = ([], ["run"])
"""Arguments with which the program is an executor; other commands end soon, or lose nothing."""

_LOOK_EVERY_S: Final = 0.05


def executors_from(executable: Path) -> set[int]:
    """The pids of the executors that this file is running as, with whatever home."""
    return {
        process.info["pid"]
        for process in psutil.process_iter(["pid", "exe", "cmdline"])
        if process.info["exe"] == str(executable)
        and (process.info["cmdline"] or [])[1:] in _EXECUTOR
    }


def family_of(pid: int) -> set[int]:
    """*pid*, the processes above it and those below: a single file is two processes, or more."""
    try:
        process = psutil.Process(pid)
        relatives = [*process.parents(), *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return {pid}
    return {pid, *(relative.pid for relative in relatives)}


def is_ancestor(pid: int) -> bool:
    """Whether the process *pid* has started this one, or one that has."""
    return pid in {parent.pid for parent in psutil.Process().parents()}


def stop(pid: int, *, within_s: float) -> None:
    """Ask the process *pid* to stop; see :func:`wait_for_end`."""
    try:
        psutil.Process(pid).terminate()
    except psutil.NoSuchProcess:
        return
    wait_for_end(pid, within_s=within_s)


def wait_for_end(pid: int, *, within_s: float) -> None:
    """Wait until the process *pid* has ended.

    Raises:
        TimeoutError: It has not, within *within_s* seconds.
    """
    ends_at = time.monotonic() + within_s
    try:
        process = psutil.Process(pid)
        # Not process.wait(): one that nobody has taken note of, as in many a container, is there.
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            if time.monotonic() > ends_at:
                raise TimeoutError
            time.sleep(_LOOK_EVERY_S)
    except psutil.NoSuchProcess:
        return
