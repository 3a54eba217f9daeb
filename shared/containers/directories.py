"""Whose processes run in a container, and the directories they get.

All functions block: not for the event loop.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from pathlib import Path
from typing import Final

from shared.containers.errors import ContainerError
from shared.private_files import PRIVATE_DIRECTORY, make_private_directory

IMAGE_USER: Final = (10001, 10001)
"""The user that the image brings, for an executor that runs as root."""

_OCCUPIED: Final = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR)


def container_user() -> tuple[int, int]:
    """Uid and gid of the processes in a container: our own, and never root's."""
    if not hasattr(os, "getuid") or os.getuid() == 0:
        return IMAGE_USER
    return os.getuid(), os.getgid()


def make_directory(directory: Path, user: tuple[int, int]) -> None:
    """Have *directory* there, with all that is in it belonging to *user*; links are not followed.

    A file that has further names is left to whom it belongs: they may be outside, such as in the
    cache of an installer that links what it installs. Only root can give files away, and only root
    has to: everybody else's containers run as themselves.

    Raises:
        ContainerError: It is something else than a directory, or cannot be made.
    """
    try:
        make_private_directory(directory.parent)
        directory.mkdir(mode=PRIVATE_DIRECTORY, exist_ok=True)
        if not stat.S_ISDIR(directory.lstat().st_mode):
            raise ContainerError("the session's directory is a link or no directory")
        if hasattr(os, "getuid") and os.getuid() == 0:
            _hand_over(directory, user)
    except RecursionError:
        raise ContainerError("the session's directory is nested too deeply") from None
    except OSError as exc:
        raise ContainerError(f"the session's directory cannot be prepared: {exc.strerror}") from exc


def take_over(warm: Path, directory: Path) -> bool:
    """Have the directory of a warm container become *directory*; ``False``: that is taken.

    The container goes on to see it: its mount is of the directory, not of the name.
    """
    try:
        make_private_directory(directory.parent)
        warm.rename(directory)
    except OSError as exc:
        if exc.errno in _OCCUPIED:
            return False
        raise ContainerError(f"the session's directory cannot be prepared: {exc.strerror}") from exc
    return True


def remove_directory(directory: Path) -> None:
    """Delete *directory* and all that is in it; harmless when it is gone."""
    shutil.rmtree(directory, ignore_errors=True)


def _hand_over(directory: Path, user: tuple[int, int]) -> None:
    for _, folders, files, descriptor in os.fwalk(directory, follow_symlinks=False):
        for name in (".", *folders, *files):
            found = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
            linked = found.st_nlink > 1 and not stat.S_ISDIR(found.st_mode)
            if (found.st_uid, found.st_gid) != user and not linked:
                os.chown(name, *user, dir_fd=descriptor, follow_symlinks=False)
