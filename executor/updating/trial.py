"""Trying a version of this program out, as a process of its own, before anything depends on it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

from executor.packaged.build_info import PROGRAM
from executor.updating.errors import UpdateError

VERSION_S: Final = 30.0
"""A single file on a slow disk takes a second; the first start of an unknown file on macOS some
more, while the system looks at it."""

DOCTOR_S: Final = 120.0
"""The doctor bounds each of its examinations by itself."""


def version_of(program: Path, *, within_s: float = VERSION_S) -> str:
    """The line with which *program* answers ``--version``.

    Raises:
        UpdateError: It does not run here, or it is another program.
    """
    try:
        status, said = _run(program, "--version", within_s=within_s)
    except OSError as exc:
        raise UpdateError(f"it does not run on this machine: {exc.strerror}") from exc
    except subprocess.TimeoutExpired:
        raise UpdateError(f"it does not say its version within {within_s:g} s") from None
    if status != 0:
        raise UpdateError(f"it does not run on this machine: {said[-500:] or f'status {status}'}")
    if not said.startswith(f"{PROGRAM} "):
        raise UpdateError(f"it is not {PROGRAM}")
    return said


def troubles_of(program: Path) -> str | None:
    """What the doctor of *program* says, with this environment and home; ``None``: all is well."""
    try:
        status, said = _run(program, "doctor", within_s=DOCTOR_S)
    except OSError as exc:
        return f"it does not run: {exc.strerror}"
    except subprocess.TimeoutExpired:
        return f"it does not end within {DOCTOR_S:g} s"
    return said or f"exit status {status}" if status else None


def _run(program: Path, argument: str, *, within_s: float) -> tuple[int, str]:
    """Exit status and output of *program*; when it takes longer, it and its children are ended."""
    with subprocess.Popen(  # noqa: S603  the program that an operator has named and verified
        [program, argument],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        try:
            said, _ = process.communicate(timeout=within_s)
        except BaseException:
            _end(process)
            raise
    return process.returncode, said.strip()


def _end(process: subprocess.Popen[str]) -> None:
    """End it and its children, of which one may have outlived it and hold its output."""
    with suppress(ProcessLookupError):
        if sys.platform == "win32":
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)
