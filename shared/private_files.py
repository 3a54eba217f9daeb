"""Files and folders that only their owner may read."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from pathlib import Path
from typing import Final

PRIVATE_FILE: Final = 0o600
PRIVATE_DIRECTORY: Final = 0o700

_CANNOT_BE_ASKED: Final = frozenset({errno.EINVAL, errno.EBADF, errno.ENOTSUP, errno.ENOSYS})
"""What systems answer that write no directory through; the first two are those that PostgreSQL
knows."""


def make_private_directory(path: Path) -> None:
    """Create *path* and its missing parents, readable by the owner only.

    What exists already keeps its mode: it may be the user's own.
    """
    if path.is_dir():
        return
    make_private_directory(path.parent)
    path.mkdir(mode=PRIVATE_DIRECTORY, exist_ok=True)


def empty_directory(path: Path) -> None:
    """Delete all that is in *path*; a link in there goes, not where it leads."""
    for entry in path.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink(missing_ok=True)


def write_private_file(path: Path, text: str) -> None:
    """Replace *path* by a file with *text*, readable by the owner only; all of it or nothing.

    A reader never sees half of it, and after a crash the old or the new text is there: once this
    returns, the new one. Blocks for as long as the disk takes: not for the event loop.

    Raises:
        OSError: It could not be written, or is there and may be lost with the power.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _write_through(path.parent)


def _write_through(directory: Path) -> None:
    """Have the names in *directory* survive the loss of power, where that can be asked for."""
    try:
        descriptor = os.open(directory, os.O_RDONLY)
    except PermissionError:  # Windows opens none; elsewhere one may be writable and not readable
        return
    try:
        os.fsync(descriptor)
    except OSError as exc:
        if exc.errno not in _CANNOT_BE_ASKED:
            raise
    finally:
        os.close(descriptor)
