"""Processes to be found and ended: shells that say when they are ready."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import psutil


@contextmanager
def shell(command: str, **env: str) -> Iterator[tuple[psutil.Process, str]]:
    """A shell in a session of its own, and the line that *command* prints first; reaped here."""
    with subprocess.Popen(
        ["/bin/sh", "-c", command],
        env={"PATH": os.environ["PATH"], **env},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        try:
            yield psutil.Process(process.pid), process.stdout.readline().strip()
        finally:
            process.kill()


def alive(process: psutil.Process) -> bool:
    """Whether it has not ended; a zombie has."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
