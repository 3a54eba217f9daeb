"""Is there room on the disks that the executor writes to?"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from executor.diagnosis.finding import Finding, failed, ok, warning
from executor.diagnosis.home import existing_part
from executor.diagnosis.remedies import command

FEW_BYTES: Final = 2 * 2**30
"""The events of an outage may take half of it; checkouts need the rest."""

TOO_FEW_BYTES: Final = 64 * 2**20
"""Beside the executor's own 4 MiB of reserve, hardly a checkout has room in it."""

FEW_FILES: Final = 1000
"""A small checkout has more."""


def look_at_disks(folders: Iterable[Path]) -> list[Finding]:
    """One finding for each file system that *folders* or the temporary files are on.

    Looks at the disk: not for the event loop.
    """
    by_device: dict[int, Path] = {}
    for folder in (*folders, Path(tempfile.gettempdir())):
        there = existing_part(folder)
        by_device.setdefault(there.stat().st_dev, there)
    return [_room(folder) for folder in by_device.values()]


def _room(folder: Path) -> Finding:
    free = shutil.disk_usage(folder).free
    what = f"{_size(free)} free for {folder}"
    if _files_left(folder) < FEW_FILES:
        what = f"no more files can be made in {folder}, whatever their size"
        return failed("disk", what, _most_files(folder))
    if free < TOO_FEW_BYTES:
        return failed("disk", what, _largest(folder))
    if free < FEW_BYTES:
        return warning("disk", what, _largest(folder))
    return ok("disk", what)


def _files_left(folder: Path) -> int:
    """How many files can still be made there."""
    if sys.platform == "win32":
        return FEW_FILES
    status = os.statvfs(folder)
    return status.f_favail if status.f_files else FEW_FILES  # some count none


def _largest(folder: Path) -> str:
    """Shows what takes the room."""
    if sys.platform == "win32":
        return "cleanmgr"
    return f"{command('du', '-xh', '-d', '2', folder)} | sort -h | tail"


def _most_files(folder: Path) -> str:
    """Shows where the files are."""
    return f"{command('du', '-x', '--inodes', '-d', '2', folder)} | sort -n | tail"


def _size(count: int) -> str:
    if count < 2**30:
        return f"{count / 2**20:.0f} MiB"
    return f"{count / 2**30:.1f} GiB"
