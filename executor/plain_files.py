"""Reading files that somebody else may have put there: no links, no pipes, no surprise in size."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path
from typing import BinaryIO, Final

# A pipe in the file's place would otherwise be waited for until somebody writes.
_FLAGS: Final = (
    os.O_RDONLY
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_BINARY", 0)
)


class TooLarge(OSError):
    """The file has more bytes than it may have."""


def read_plain(path: Path, limit: int, folder: int | None = None) -> bytes | None:
    """The first *limit* bytes of a regular file; ``None`` for a link or anything else.

    Args:
        folder: A directory's descriptor, in which *path* is looked for.

    Raises:
        OSError: It is there and cannot be read.
    """
    file = open_plain(path, folder)
    if file is None:
        return None
    with file:
        return file.read(limit)


def copy_plain(source: Path, target: Path, limit: int) -> None:
    """Copy a regular file; nothing when there is none.

    Raises:
        TooLarge: It has more than *limit* bytes.
        OSError: It is there and cannot be copied.
    """
    file = open_plain(source)
    if file is None:
        return
    with file:
        if os.fstat(file.fileno()).st_size > limit:
            raise TooLarge(f"{source} is too large")
        with target.open("wb") as copy:
            shutil.copyfileobj(file, copy)


def open_plain(path: Path, folder: int | None = None) -> BinaryIO | None:
    """Open a regular file for reading, as :func:`read_plain`."""
    try:
        # On systems without O_NOFOLLOW this is all there is.
        status = path.lstat() if folder is None else os.lstat(path, dir_fd=folder)
        if not stat.S_ISREG(status.st_mode):
            return None
        file = os.fdopen(os.open(path, _FLAGS, dir_fd=folder), "rb")
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        return None
    return file
