"""What installing a service comes to: files to write and programs to run, to be shown or done."""

from __future__ import annotations

import shlex
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from shared.errors import WegentError

AGAIN_AFTER_S: Final = 1.0
AGAIN_TIMES: Final = 60
"""How often a program that says "not yet" is run again: what ends has its runs to end, too."""


class StepFailed(WegentError):
    """A program of the system did not do what it was asked."""

    code = "service_step_failed"


@dataclass(frozen=True, slots=True)
class WriteFile:
    """Replace *path*, all of it or nothing; missing folders are made."""

    path: Path
    text: str
    encoding: str = "utf-8"


@dataclass(frozen=True, slots=True)
class RemoveFile:
    """Remove *path*; it may be gone already."""

    path: Path


@dataclass(frozen=True, slots=True)
class RunProgram:
    """Run a program to its end.

    Attributes:
        may_fail: Whether it is no error when it fails.
        not_yet: Exit statuses after which it is run again for a while.
    """

    argv: tuple[str, ...]
    may_fail: bool = False
    not_yet: tuple[int, ...] = ()


Step = WriteFile | RemoveFile | RunProgram

Run = Callable[[Sequence[str]], "subprocess.CompletedProcess[str]"]
"""Runs a program to its end and keeps its output."""


def run_program(argv: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run *argv* without input.

    Raises:
        StepFailed: There is no such program.
    """
    try:
        return subprocess.run(  # noqa: S603  programs of the system, with arguments of ours
            argv,
            # Whoever presses Ctrl-C means this program, which may have things to put right.
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    except OSError as exc:
        raise StepFailed(f"{argv[0]} cannot be run: {exc.strerror}") from None


def perform(
    steps: Sequence[Step], *, run: Run, pause: Callable[[float], object] = time.sleep
) -> None:
    """Carry *steps* out in their order.

    Args:
        pause: Waits for so many seconds, before a program is run again.

    Raises:
        StepFailed: One of them failed; those before it have been done.
    """
    for step in steps:
        match step:
            case WriteFile():
                _write(step)
            case RemoveFile(path):
                _remove(path)
            case RunProgram(argv, may_fail, not_yet):
                answer = run(argv)
                for _ in range(AGAIN_TIMES):
                    if answer.returncode not in not_yet:
                        break
                    pause(AGAIN_AFTER_S)
                    answer = run(argv)
                if answer.returncode and not may_fail:
                    raise failure(argv, answer)


def failure(argv: Sequence[str], answer: subprocess.CompletedProcess[str]) -> StepFailed:
    """What a program said when it failed, as an error."""
    said = " ".join((answer.stderr or answer.stdout or "").split())
    reason = said[:500] or f"exit status {answer.returncode}"
    return StepFailed(f"`{shlex.join(argv)}` failed: {reason}")


def described(steps: Sequence[Step]) -> Iterator[str]:
    """The lines that tell a person what *steps* would do."""
    for step in steps:
        match step:
            case WriteFile(path, text):
                yield f"write {path}:"
                yield from (f"    {line}".rstrip() for line in text.splitlines())
            case RemoveFile(path):
                yield f"remove {path}"
            case RunProgram(argv):
                yield f"run: {shlex.join(argv)}"


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as exc:
        raise StepFailed(f"{path} cannot be removed: {exc.strerror}") from None


def _write(step: WriteFile) -> None:
    temporary = step.path.with_name(f".{step.path.name}.new")
    try:
        step.path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(step.text, encoding=step.encoding, newline="")
        temporary.replace(step.path)
    except OSError as exc:
        temporary.unlink(missing_ok=True)
        raise StepFailed(f"{step.path} cannot be written: {exc.strerror}") from None
