"""The folder that the loader of a single file unpacks at each start, and the process that it is.

PyInstaller's loader unpacks into a folder of its own in the system's temporary one, starts the
program in there as its child, and removes the folder when the child has ended. A loader that is
killed can do neither: its child has to end by itself, and the next start removes the folder.

A folder is told by the marker file that is the first thing unpacked into it, never by its name
alone. The program keeps the marker locked as long as it lives.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from executor.file_lock import lock
from executor.packaged.frozen import unpacked_folder
from executor.packaged.loader_death import end_with

MARKER: Final = ".wegent-executor"
"""Empty until the program has locked it."""

_FOLDER: Final = re.compile(r"_MEI(?P<loader>[0-9a-f]{8}).{6}")
"""How PyInstaller 6 names the folder: with the pid of the loader."""

_LOCKED: Final = b"locked\n"

UNPACKING_S: Final = 600.0
"""Longer than any unpacking takes (0.2 s): a folder that is older and that nobody has ever locked
was left by a loader that is dead."""

_NO_LINKS: Final = getattr(os, "O_NOFOLLOW", 0)


def live_with_loader() -> None:
    """Show that the folder of this program is in use, and end when the loader ends.

    Does nothing unless this program is a single file.
    """
    if (unpacked := unpacked_folder()) is None:
        return
    folder = Path(unpacked)
    claim(folder)
    if (loader := _loader(folder)) is not None:
        end_with(loader)


def claim(folder: Path) -> None:
    """Show for as long as this process lives that *folder* is in use."""
    with suppress(OSError):  # then it looks like one that is just being unpacked
        descriptor = os.open(folder / MARKER, os.O_RDWR | _NO_LINKS)
        lock(descriptor, wait=True)  # for whoever is just looking whether it is in use
        os.write(descriptor, _LOCKED)
    with suppress(OSError):  # Windows has no such locks, and nobody there who would ask for them
        # systemd-tmpfiles removes what is ten days old in there, but leaves locked folders alone.
        lock(os.open(folder, os.O_RDONLY))


def remove_own_leftovers() -> list[Path]:
    """Remove what killed predecessors have left where this program is unpacked. Blocks."""
    folder = unpacked_folder()
    return [] if folder is None else remove_leftovers(Path(folder).parent)


def remove_leftovers(temporary: Path) -> list[Path]:
    """Remove the folders in *temporary* whose programs were killed; returns which. Blocks."""
    removed = []
    for folder in temporary.glob("_MEI*"):
        if _is_left(folder):
            with suppress(OSError):  # somebody else removes it, too
                _remove(folder)
                removed.append(folder)
    return removed


def _remove(folder: Path) -> None:
    """Remove *folder*, its marker last: what is cut off, or fails, is gone on with some day."""
    for entry in folder.iterdir():
        if entry.name == MARKER:
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink(missing_ok=True)
    shutil.rmtree(folder)


def _is_left(folder: Path) -> bool:
    loader = _loader(folder)
    if loader is None or not _is_ours(folder):
        return False
    try:
        descriptor = os.open(folder / MARKER, os.O_RDWR | _NO_LINKS)
    except OSError:
        return False
    try:
        lock(descriptor)
        if os.read(descriptor, len(_LOCKED)) == _LOCKED:
            return True
        # The program has not locked it yet: only the loader shows that the folder is in use. One
        # in a container that shares the temporary folder does not show: its pid is not known here.
        return not _lives(loader) and time.time() - folder.stat().st_mtime > UNPACKING_S
    except OSError:
        return False  # in use
    finally:
        os.close(descriptor)


def _loader(folder: Path) -> int | None:
    match = _FOLDER.fullmatch(folder.name)
    return int(match["loader"], 16) if match else None


def _is_ours(folder: Path) -> bool:
    try:
        status = folder.lstat()
    except OSError:
        return False
    mine = not hasattr(os, "getuid") or status.st_uid == os.getuid()
    return stat.S_ISDIR(status.st_mode) and mine


def _lives(pid: int) -> bool:
    import psutil

    return psutil.pid_exists(pid)
