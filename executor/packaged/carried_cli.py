"""Read the Claude Code CLI that a binary built ``--with-claude`` carries.

The CLI has some 380 MB, so it is not among the files that the binary unpacks at each start: it lies
compressed in the executable itself, as an entry of PyInstaller's archive that the loader skips, and
is unpacked once, by whoever needs it.

The entry holds, one after the other:

1. one line of JSON, ended by a line feed: ``{"version": "2.1.330", "size": 381121040, "sha256":
   "…"}``. Size in bytes and digest are those of the unpacked CLI.
2. the CLI as one xz stream.

``scripts/binary/payload.py`` writes it.
"""

from __future__ import annotations

import json
import lzma
import mmap
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ENTRY: Final = "claude.xz"
"""The name of the entry."""

_COOKIE_MAGIC: Final = b"MEI\014\013\012\013\016"
_COOKIE: Final = struct.Struct("!8sIIII64s")
_TOC_ENTRY: Final = struct.Struct("!IIIIBc")
"""The end of PyInstaller's archive, and the head of an entry in its table of contents. Source:
PyInstaller 6, ``PyInstaller/archive/readers.py``."""

_CHUNK: Final = 2**18


@dataclass(frozen=True, slots=True)
class CarriedCli:
    """A CLI that is there, but not unpacked.

    Attributes:
        version: Its version, such as ``2.1.330``.
        size: Bytes when unpacked.
        sha256: Hexadecimal digest of the unpacked file, to be compared by whoever unpacks it.
    """

    version: str
    size: int
    sha256: str
    _archive: Path
    _offset: int

    def chunks(self) -> Iterator[bytes]:
        """The CLI, unpacked piece by piece, at some 100 MB a second; for a thread of its own.

        Raises:
            OSError: The executable cannot be read.
            lzma.LZMAError: What is carried is damaged.
            EOFError: The executable ends in the middle of it.
        """
        decompressor = lzma.LZMADecompressor(lzma.FORMAT_XZ)
        with self._archive.open("rb") as file:
            file.seek(self._offset)
            while not decompressor.eof:
                if not (packed := file.read(_CHUNK)):
                    raise EOFError(f"{self._archive} ends within {ENTRY}")
                yield decompressor.decompress(packed)


def carried_cli(executable: Path | None = None) -> CarriedCli | None:
    """The CLI in *executable*, or ``None`` when it carries none; blocks for milliseconds.

    Args:
        executable: ``None`` means this program, which carries one only when it is frozen.

    Raises:
        OSError: The executable cannot be read.
    """
    if executable is None:
        if not getattr(sys, "frozen", False):
            return None
        executable = Path(sys.executable)
    with (
        executable.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as all_,
    ):
        # From the end: on Linux and macOS headers and a signature follow the archive.
        cookie = all_.rfind(_COOKIE_MAGIC)
        if cookie < 0:
            return None
        _, length, toc_offset, toc_length, _, _ = _COOKIE.unpack_from(all_, cookie)
        start = cookie + _COOKIE.size - length
        offset = _entry(all_[start + toc_offset : start + toc_offset + toc_length])
        if offset is None:
            return None
        all_.seek(start + offset)
        about = json.loads(all_.readline())
        return CarriedCli(about["version"], about["size"], about["sha256"], executable, all_.tell())


def _entry(toc: bytes) -> int | None:
    """Where the entry begins, from the start of the archive."""
    place = 0
    while place < len(toc):
        size, offset, *_ = _TOC_ENTRY.unpack_from(toc, place)
        name = toc[place + _TOC_ENTRY.size : place + size].rstrip(b"\0")
        if name == ENTRY.encode():
            return int(offset)
        place += size
    return None
