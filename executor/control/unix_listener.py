"""The executor's end of the local socket on systems that have Unix sockets."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from executor.control.errors import ControlError
from executor.control.places import socket_places
from executor.control.protocol import MAX_REQUEST_BYTES
from shared.private_files import PRIVATE_FILE
from shared.shielding import in_thread

assert sys.platform != "win32"  # noqa: S101 - for whoever checks the types

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
        with suppress(OSError):  # what stays there is replaced by the next start
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


def _open(home: Path) -> tuple[socket.socket, Path]:
    failures = []
    for place in socket_places(home):
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
