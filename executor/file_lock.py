"""A lock on an open file, which the system takes back when its process ends, however it does."""

from __future__ import annotations

import os
import sys
from typing import Final

_LOCKED_AT: Final = 2**30
"""The byte that is locked on Windows, beyond all content: a locked byte cannot be read there."""

if sys.platform == "win32":
    import msvcrt

    def lock(descriptor: int, *, wait: bool = False) -> None:
        """Lock the file for this process; *wait*: once no other process has it.

        Raises:
            BlockingIOError: Another process has it, or keeps it for longer than 10 s.
            OSError: It cannot be locked.
        """
        os.lseek(descriptor, _LOCKED_AT, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
        except PermissionError as exc:
            raise BlockingIOError from exc
        finally:
            os.lseek(descriptor, 0, os.SEEK_SET)
else:
    import fcntl

    def lock(descriptor: int, *, wait: bool = False) -> None:
        """Lock the file for this process; *wait*: once no other process has it.

        Raises:
            BlockingIOError: Another process has it.
            OSError: It cannot be locked.
        """
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
