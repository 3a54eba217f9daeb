"""The socket on which a program of ours listens."""

from __future__ import annotations

import errno
import os
import socket

from shared.errors import WegentError


class CannotListen(WegentError):
    """The address cannot be had."""

    code = "cannot_listen"


def bind(host: str, port: int, *, prefix: str = "") -> socket.socket:
    """A socket that listens on *port* of *host*; the caller closes it. Blocks: it may ask DNS.

    Args:
        prefix: Before ``HOST`` and ``PORT``, the names of the settings.

    Raises:
        CannotListen: Says which setting to change.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as exc:
        raise CannotListen(
            f"{prefix}HOST: the name or address is not usable: {exc.strerror}",
            hint="127.0.0.1 serves this machine only, 0.0.0.0 every network",
        ) from None
    try:
        if os.name == "posix":  # elsewhere it would let two programs share the port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(socket.SOMAXCONN)
    except OSError as exc:
        listener.close()
        if exc.errno == errno.EADDRINUSE:
            raise CannotListen(
                f"{prefix}PORT: port {port} is in use by another program",
                hint=f"stop it, or set {prefix}PORT to a free port",
            ) from None
        raise CannotListen(
            f"cannot listen on port {port}: {exc.strerror}",
            hint=f"check {prefix}HOST and {prefix}PORT",
        ) from None
    return listener


def url_of(listener: socket.socket) -> str:
    """Where a program on this machine reaches *listener*."""
    host, port = listener.getsockname()[:2]
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared only
    return f"http://[{reachable}]:{port}" if ":" in reachable else f"http://{reachable}:{port}"
