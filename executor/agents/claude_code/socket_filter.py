"""A seccomp program that leaves a process no sockets but those of its own network namespace.

Sockets with a path in the file system (ssh-agent, Docker, D-Bus) belong to no network: a process
without network could still ask the programs behind them to act outside of its walls.
"""

from __future__ import annotations

import errno
import platform
import struct
from typing import Final

_ARCHITECTURES: Final = {"x86_64": (0xC000003E, 41), "aarch64": (0xC00000B7, 198)}
"""``AUDIT_ARCH_…`` and the number of ``socket``, from the kernel's own headers."""

_X32: Final = 0x40000000  # the same calls under other numbers
_IO_URING_SETUP: Final = 425  # it makes sockets without the call
_FAMILIES: Final = (2, 10, 16)
"""IPv4, IPv6, netlink: what a network namespace contains. Not AF_UNIX, not AF_VSOCK."""

_LOAD: Final = 0x20
_JUMP_EQUAL: Final = 0x15
_JUMP_AT_LEAST: Final = 0x35
_RETURN: Final = 0x06
_ALLOW: Final = 0x7FFF0000
_KILL: Final = 0x80000000
_DENY: Final = 0x00050000 | errno.EPERM

_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data


def socket_filter(machine: str | None = None) -> bytes | None:
    """The program as ``bwrap --seccomp`` reads it.

    *machine* as ``uname -m`` has it, ``None``: this one's. ``None``: it is none that is known here.
    """
    known = _ARCHITECTURES.get(machine or platform.machine())
    if known is None:
        return None
    architecture, socket = known
    program = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_JUMP_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, _KILL),  # e.g. the calls of 32-bit programs
        (_LOAD, 0, 0, _NUMBER),
        (_JUMP_AT_LEAST, 0, 1, _X32),
        (_RETURN, 0, 0, _KILL),
        (_JUMP_EQUAL, 0, 1, _IO_URING_SETUP),
        (_RETURN, 0, 0, _DENY),
        (_JUMP_EQUAL, 1, 0, socket),
        (_RETURN, 0, 0, _ALLOW),
        (_LOAD, 0, 0, _FIRST_ARGUMENT),
        *((_JUMP_EQUAL, len(_FAMILIES) - at, 0, family) for at, family in enumerate(_FAMILIES)),
        (_RETURN, 0, 0, _DENY),
        (_RETURN, 0, 0, _ALLOW),
    ]
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
