"""Unpack the carried CLI, once for each version: ``{home}/cache/claude/{version}/claude``.

The file there is whole whenever it has its name. What is left of an attempt that was killed has
another one, and is overwritten by the next. Everything here blocks.
"""

from __future__ import annotations

import hashlib
import lzma
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import psutil

from executor.agents.claude_code.install_places import program_name
from executor.file_lock import lock
from executor.packaged.carried_cli import CarriedCli
from shared.errors import WegentError
from shared.logging import get_logger
from shared.private_files import (
    PRIVATE_DIRECTORY,
    PRIVATE_FILE,
    make_private_directory,
    write_private_file,
)

logger = get_logger("claude_code")

SPACE_TO_LEAVE: Final = 64 * 2**20
"""Bytes that unpacking leaves free on the disk, for what the executor itself has to write."""

_ASK_AGAIN_S: Final = 0.05


class UnpackError(WegentError):
    """The carried CLI could not be unpacked."""

    code = "unpack_failed"


def cli_cache(home: Path) -> Path:
    """The folder of unpacked CLIs, one folder for each version."""
    return home / "cache" / "claude"


def never() -> bool:
    """For callers that have no reason to give up."""
    return False


def unpack(carried: CarriedCli, home: Path, stopping: Callable[[], bool] = never) -> Path:
    """The *carried* CLI as a program; some seconds when it has to be unpacked.

    A copy that is there is used when it is whole. Whether it is, is found out by reading it, but
    only when it has changed since that was last done.

    Args:
        stopping: Asked now and then: whether to give up.

    Raises:
        UnpackError: There is no room for it, it cannot be written, what is carried is damaged, or
            it was to give up.
    """
    folder = cli_cache(home) / carried.version
    program = folder / program_name()
    try:
        if _verified(program, carried):
            return program
        make_private_directory(folder)
        with _locked(cli_cache(home) / "lock", stopping):
            if not _is_whole(program, carried):
                _write(carried, program, stopping)
            with suppress(OSError):  # then it is read again at the next start
                write_private_file(_seal(program), _seal_text(program, carried))
    except (lzma.LZMAError, EOFError) as exc:
        raise _damaged() from exc
    except OSError as exc:
        raise UnpackError(f"cannot be unpacked: {exc.strerror}") from exc
    return program


def remove_other_versions(program: Path) -> None:
    """Remove what was unpacked besides *program*, unless a process runs it.

    Only for the executor that holds the home: nobody else is about to start another version.
    """
    current = program.parent
    with suppress(OSError):
        others = [path for path in current.parent.iterdir() if path.is_dir() and path != current]
        running = _programs_in(current.parent) if others else set()
        for other in others:
            if not any(path.is_relative_to(other) for path in running):
                shutil.rmtree(other, ignore_errors=True)


def _write(carried: CarriedCli, program: Path, stopping: Callable[[], bool]) -> None:
    needed = carried.size + SPACE_TO_LEAVE
    free = shutil.disk_usage(program.parent).free
    if free < needed:
        raise UnpackError(
            f"cannot be unpacked: it takes {needed // 10**6} MB, and {free // 10**6} MB are free",
            hint=f"make room on the disk of {program.parent}",
        )
    logger.info("unpacking Claude Code %s, once: this takes some seconds", carried.version)
    part = program.with_suffix(".part")
    try:
        whole = _copy(carried, part, stopping) == carried.sha256
        if whole:
            part.chmod(PRIVATE_DIRECTORY)
            part.replace(program)
    finally:
        part.unlink(missing_ok=True)
    if not whole:
        raise _damaged()


def _copy(carried: CarriedCli, part: Path, stopping: Callable[[], bool]) -> str:
    """Write it all to *part*, through to the disk; its digest."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0)
    digest = hashlib.sha256()
    with os.fdopen(os.open(part, flags, PRIVATE_FILE), "wb") as file:
        for chunk in carried.chunks():
            _go_on_unless(stopping)
            digest.update(chunk)
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def _go_on_unless(stopping: Callable[[], bool]) -> None:
    if stopping():
        raise UnpackError("is not unpacked yet: the executor was told to stop")


def _damaged() -> UnpackError:
    return UnpackError("is carried damaged", hint="install this program anew")


def _is_whole(program: Path, carried: CarriedCli) -> bool:
    try:
        with program.open("rb") as file:
            if os.fstat(file.fileno()).st_size != carried.size or not os.access(program, os.X_OK):
                return False
            return hashlib.file_digest(file, "sha256").hexdigest() == carried.sha256
    except FileNotFoundError:
        return False


def _verified(program: Path, carried: CarriedCli) -> bool:
    """Whether it was whole when last read, and has not been changed since."""
    try:
        sealed = _seal(program).read_text(encoding="utf-8")
        return sealed == _seal_text(program, carried) and os.access(program, os.X_OK)
    except (OSError, ValueError):
        return False


def _seal(program: Path) -> Path:
    return program.with_name("verified")


def _seal_text(program: Path, carried: CarriedCli) -> str:
    found = program.stat()
    return f"{carried.sha256} {found.st_size} {found.st_mtime_ns}\n"


def _programs_in(folder: Path) -> set[Path]:
    """The programs in *folder* that processes of this machine run."""
    programs = set()
    for pid in psutil.pids():
        with suppress(psutil.Error, OSError):  # gone meanwhile, or another user's
            programs.add(Path(psutil.Process(pid).exe()))
    return {path for path in programs if path.is_relative_to(folder)}


@contextmanager
def _locked(file: Path, stopping: Callable[[], bool]) -> Iterator[None]:
    """Only one process unpacks: an executor, or a command beside it. The others wait."""
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, PRIVATE_FILE)
    try:
        while True:
            try:
                lock(descriptor)
                break
            except BlockingIOError:
                _go_on_unless(stopping)
                time.sleep(_ASK_AGAIN_S)
        yield
    finally:
        os.close(descriptor)
