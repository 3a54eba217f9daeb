"""Leave out what aiohttp reads while it is imported: the authorities of this machine.

It makes a TLS context of its own, and to fill that takes some 40 ms of every start. The executor
never uses it: whom its connections trust says :mod:`executor.network.trust`. Hooks of others may.
"""

from __future__ import annotations

import functools
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_unread: list[Callable[[], None]] = []


@contextmanager
def authorities_unread() -> Iterator[None]:
    """TLS contexts that are made meanwhile stay empty, and so trust nobody.

    For a process that does nothing else meanwhile.
    """
    read = ssl.SSLContext.load_default_certs

    def put_off(context: ssl.SSLContext, purpose: ssl.Purpose = ssl.Purpose.SERVER_AUTH) -> None:
        _unread.append(functools.partial(read, context, purpose))

    ssl.SSLContext.load_default_certs = put_off  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        ssl.SSLContext.load_default_certs = read  # type: ignore[method-assign]


def read_authorities() -> None:
    """Fill the contexts that were left empty. Blocks."""
    while _unread:
        _unread.pop()()
