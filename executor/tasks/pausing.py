"""Stopping an agent's whole process tree where it stands, and letting it go on."""

from __future__ import annotations

from contextlib import suppress

import psutil

_ROUNDS = 5
"""How often to look for processes that were started while others were being stopped."""


def suspend_tree(pid: int) -> None:
    """Stop *pid* and everything it has started. Looks at the process table: not for the loop."""
    stopped: set[psutil.Process] = set()
    for _ in range(_ROUNDS):
        running = [process for process in _tree(pid) if process not in stopped]
        if not running:
            return
        for process in running:
            with suppress(psutil.Error):
                process.suspend()
        stopped.update(running)


def resume_tree(pid: int) -> None:
    """Undo :func:`suspend_tree`. Looks at the process table: not for the loop."""
    for process in reversed(_tree(pid)):  # the agent last: it finds its tools at work
        with suppress(psutil.Error):
            process.resume()


def _tree(pid: int) -> list[psutil.Process]:
    """The process and all that descend from it; none when it is gone."""
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.Error:
        return []
