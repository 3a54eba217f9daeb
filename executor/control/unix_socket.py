"""The local socket on systems that have Unix sockets.

It is ``{home}/control.sock``. Where that cannot be (a path beyond some hundred bytes, a file system
without sockets, a full disk) it is in the user's runtime folder, under a name made of the home's.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import socket
import stat
import struct
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from executor.control.errors import ControlError, NotRunning
from executor.control.protocol import MAX_ANSWER_BYTES, MAX_REQUEST_BYTES
from executor.shielding import in_thread
from shared.private_files import PRIVATE_FILE, make_private_directory

assert sys.platform != "win32"  # noqa: S101 - for whoever checks the types

SOCKET: Final = "control.sock"

_ABSENT: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ECONNREFUSED, None})
"""Nobody listens at a place; ``None``: its path is too long to be asked for."""

OnClient = Callable[[asyncio.StreamReader, asyncio.StreamWriter], None]


class Listener:
    """An open socket, which takes clients."""

    def __init__(self, server: asyncio.Server, place: Path) -> None:
        """Use :func:`listen`."""
        self._server = server
        self._place = place

    async def close(self) -> None:
        """Take no clients any more; those that there are stay."""
        self._server.close()
        with suppress(OSError):
            await in_thread(self._place.unlink, missing_ok=True)


async def listen(home: Path, on_client: OnClient) -> Listener:
    """Open the socket of the executor that holds the lock of *home*.

    What a predecessor that was killed has left is replaced.

    Raises:
        ControlError: There is no place for one.
    """
    opened, place = await in_thread(_open, home)
    server = await asyncio.start_unix_server(on_client, sock=opened, limit=MAX_REQUEST_BYTES)
    return Listener(server, place)


def is_trusted(writer: asyncio.StreamWriter) -> bool:
    """Whether the client is of this user, or root; where the system does not say: yes.

    The modes of the socket and its folder keep others out already.
    """
    option: int | None = getattr(socket, "SO_PEERCRED", None)
    if option is None:
        return True
    credentials = struct.Struct("3i")  # pid, uid, gid
    peer = writer.get_extra_info("socket")
    _, uid, _ = credentials.unpack(peer.getsockopt(socket.SOL_SOCKET, option, credentials.size))
    return uid in {os.geteuid(), 0}


def exchange(home: Path, request: bytes, timeout_s: float) -> bytes:
    """Send one line to the executor of *home* and return the line that it answers. Blocks.

    Raises:
        NotRunning: There is none.
        ControlError: It does not answer within *timeout_s* seconds, or not in one line.
    """
    ends_at = time.monotonic() + timeout_s
    with _connected(home, timeout_s) as peer:
        try:
            peer.sendall(request)
            answer = bytearray()
            while not answer.endswith(b"\n") and len(answer) < MAX_ANSWER_BYTES:
                peer.settimeout(max(0.001, ends_at - time.monotonic()))
                if not (piece := peer.recv(65536)):
                    raise ControlError("the executor has hung up", hint="try again")
                answer += piece
        except TimeoutError:
            raise ControlError(
                f"the executor does not answer within {timeout_s:g} s", hint="its log may say why"
            ) from None
        except OSError as exc:
            raise ControlError(f"the executor cannot be asked: {exc.strerror}") from exc
    return bytes(answer)


def _connected(home: Path, timeout_s: float) -> socket.socket:
    for place in _places(home):
        peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        peer.settimeout(timeout_s)
        try:
            peer.connect(str(place))
        except OSError as exc:
            peer.close()
            if exc.errno not in _ABSENT:
                raise ControlError(f"{place} cannot be opened: {exc.strerror}") from exc
        else:
            return peer
    raise NotRunning(f"no executor is running with the home {home}")


def _open(home: Path) -> tuple[socket.socket, Path]:
    failures = []
    for place in _places(home):
        try:
            return _bind(place), place
        except OSError as exc:
            failures.append(f"{place}: {exc.strerror or exc}")
    raise ControlError("; ".join(failures))


def _bind(place: Path) -> socket.socket:
    opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        place.unlink(missing_ok=True)
        opened.bind(str(place))
        place.chmod(PRIVATE_FILE)  # nobody can connect before it listens
    except BaseException:
        opened.close()
        raise
    return opened


def _places(home: Path) -> Iterator[Path]:
    """Where the socket may be: executor and commands take the first that works."""
    yield home / SOCKET
    with suppress(OSError):
        folder = _runtime_folder()
        name = hashlib.sha256(os.fsencode(home.resolve())).hexdigest()[:16]
        yield folder / f"{name}.sock"


def _runtime_folder() -> Path:
    """The user's folder for what lives no longer than a login, ours in it.

    Raises:
        OSError: There is none that nobody else can use.
    """
    import platformdirs  # seldom needed

    with warnings.catch_warnings(action="ignore"):  # it warns where the system has none
        folder = Path(platformdirs.user_runtime_dir("wegent-executor", appauthor=False))
    make_private_directory(folder)
    found = folder.lstat()
    if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise PermissionError(errno.EPERM, "others can use it", str(folder))
    return folder
