"""A command's end of the local socket on systems that have Unix sockets."""

from __future__ import annotations

import errno
import socket
import sys
import time
from pathlib import Path
from typing import Final

from executor.control.errors import ControlError, hung_up, not_answering, not_running
from executor.control.places import socket_places
from executor.control.protocol import MAX_ANSWER_BYTES

assert sys.platform != "win32"  # noqa: S101 - for whoever checks the types

_ABSENT: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ECONNREFUSED, None})
"""Nobody listens at a place; ``None``: its path is too long to be asked for."""


def exchange(home: Path, request: bytes, timeout_s: float) -> bytes:
    """Send one line to the executor of *home*; the line that it answers.

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
                    raise hung_up()
                answer += piece
        except TimeoutError:
            raise not_answering(home, timeout_s) from None
        except ConnectionError:
            raise hung_up() from None
    return bytes(answer)


def _connected(home: Path, timeout_s: float) -> socket.socket:
    for place in socket_places(home):
        peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        peer.settimeout(timeout_s)
        try:
            peer.connect(str(place))
        except BlockingIOError:  # so many wait already, since it does not run
            peer.close()
            raise not_answering(home, timeout_s) from None
        except OSError as exc:
            peer.close()
            if exc.errno not in _ABSENT:
                theirs = isinstance(exc, PermissionError)
                hint = (
                    "only the user who runs an executor, and root, may ask it" if theirs else None
                )
                raise ControlError(f"{place} cannot be opened: {exc.strerror}", hint=hint) from exc
        else:
            return peer
    raise not_running(home)
