"""Where the local socket is.

A Unix socket at ``{home}/control.sock``. Where that cannot be (a path beyond some hundred bytes, a
file system without sockets, a full disk) it is in the user's runtime folder, under a name made of
the home's. On Windows a named pipe with such a name.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import sys
import warnings
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

SOCKET: Final = "control.sock"


def pipe_name(home: Path) -> str:
    """The named pipe of the executor of *home*, on Windows."""
    return rf"\\.\pipe\wegent-executor-{_digest(home)}"


def socket_places(home: Path) -> Iterator[Path]:
    """Where the Unix socket of the executor of *home* may be.

    Executor and commands take the first that works for them. Blocks: not for the event loop.
    """
    yield home / SOCKET
    with suppress(OSError):
        yield _runtime_folder() / f"{_digest(home)}.sock"


def _runtime_folder() -> Path:
    """The user's folder for what lives no longer than a login, ours in it.

    Raises:
        OSError: There is none that nobody else can use.
    """
    import platformdirs  # seldom needed

    from shared.private_files import make_private_directory

    with warnings.catch_warnings(action="ignore"):  # it warns where the system has none
        folder = Path(platformdirs.user_runtime_dir("wegent-executor", appauthor=False))
    make_private_directory(folder)
    if not _is_private(folder):
        raise PermissionError(errno.EPERM, "others can use it", str(folder))
    return folder


def _is_private(folder: Path) -> bool:
    if sys.platform == "win32":
        return False  # there are no sockets
    found = folder.lstat()
    return found.st_uid == os.geteuid() and not stat.S_IMODE(found.st_mode) & 0o077


def _digest(home: Path) -> str:
    return hashlib.sha256(os.fsencode(os.path.normcase(home.resolve()))).hexdigest()[:16]
