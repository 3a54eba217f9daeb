"""Space that is kept for what must still be written when the disk is full."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Final

RESERVE_BYTES: Final = 4 * 1024 * 1024
"""Room for verdicts on a full disk: eight of the largest, or 400 of 5 kB (measured); they are
written into the log first, and each is kept twice."""

LEAST_BYTES: Final = 1024 * 1024
"""With less than this a database cannot be opened for sure: its log and its index come first."""

ENOUGH_BYTES: Final = 2 * RESERVE_BYTES
"""With so much a disk that was full has room again: the reserve, and as much to go on with."""


def has_room(folder: Path, least_bytes: int = LEAST_BYTES) -> bool:
    """Whether the disk of *folder*, or of its nearest parent that exists, has room to begin with.

    Without room for files (inodes), too, there is none.

    Raises:
        OSError: The disk cannot be asked.
    """
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if shutil.disk_usage(folder).free < least_bytes:
        return False
    if not hasattr(os, "statvfs"):
        return True
    disk = os.statvfs(folder)
    return disk.f_favail > 0 or disk.f_files == 0  # some file systems do not count files


class Reserve:
    """A file that is given up when space is needed, and made anew when there is some."""

    def __init__(self, path: Path) -> None:
        """Nothing is made yet."""
        self._path = path

    def give_up(self) -> bool:
        """Make room; False when there is nothing left to give up."""
        try:
            self._path.unlink()
        except OSError:
            return False
        return True

    def make(self) -> bool:
        """Have the reserve, unless the disk has not twice its size left."""
        try:
            if self._path.exists() and self._path.stat().st_size >= RESERVE_BYTES:
                return True
            if shutil.disk_usage(self._path.parent).free < ENOUGH_BYTES:
                return False
            # Random, so that a disk that compresses holds the space too.
            with open(self._path, "wb", opener=lambda p, flags: os.open(p, flags, 0o600)) as file:
                file.write(os.urandom(RESERVE_BYTES))
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            with suppress(OSError):
                self._path.unlink()
            return False
        return True
