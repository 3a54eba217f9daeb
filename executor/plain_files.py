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


def read_plain(path: Path, limit: int) -> bytes | None:
    """The first *limit* bytes of a regular file; ``None`` for a link or anything else.

    Raises:
        OSError: It is there and cannot be read.
    """
    file = _open(path)
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
    file = _open(source)
    if file is None:
        return
    with file:
        if os.fstat(file.fileno()).st_size > limit:
            raise TooLarge(f"{source} is too large")
        with target.open("wb") as copy:
            shutil.copyfileobj(file, copy)


def _open(path: Path) -> BinaryIO | None:
    try:
        # On systems without O_NOFOLLOW this is all there is.
        if not stat.S_ISREG(path.lstat().st_mode):
            return None
        file = os.fdopen(os.open(path, _FLAGS), "rb")
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        return None
    return file
