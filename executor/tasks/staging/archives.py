"""Reading archives from outside: zip, tar and tar.gz, within bounds and without tricks.

Only plain files and folders are taken. Everything is bounded before it is read: how large the
archive is, how many entries it has, and what becomes of it when it is unpacked.
"""

from __future__ import annotations

import gzip
import stat
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import RawIOBase
from pathlib import Path
from typing import BinaryIO, Final

from executor.tasks.staging.fetching import Unusable
from shared.protocol.relative_paths import Tree, relative_path

MAX_ARCHIVE_BYTES: Final = 20 * 2**20
MAX_UNPACKED_BYTES: Final = 100 * 2**20
"""Of all files together; a skill has some kilobytes."""

MAX_ENTRIES: Final = 2000
MAX_RATIO: Final = 100
"""Unpacked to packed; text comes to 5, logs to 30."""

_RATIO_COUNTS_FROM: Final = 2**20
_CHUNK_BYTES: Final = 2**16
_MAX_READ_BYTES: Final = 2**20
"""At once; a header of tar could otherwise ask for all memory."""

_MAX_DIRECTORY_BYTES: Final = 2 * 2**20
_END_OF_ZIP: Final = struct.Struct("<4s4H2LH")
_DAMAGED: Final = (
    zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, struct.error, EOFError,
    NotImplementedError, RuntimeError, ValueError, OverflowError,
)  # fmt: skip
"""What the standard library raises on archives that it cannot read."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of an archive."""

    path: str
    """Relative to where the marker lies, and safe."""
    executable: bool
    chunks: Callable[[], Iterator[bytes]]


@contextmanager
def opened_archive(file: BinaryIO, marker: str, scratch: Path) -> Iterator[list[Entry]]:
    """The files of the archive in *file*, which can seek. Blocks, as does reading them.

    Args:
        marker: The file that must be at the top, or in the only folder at the top; then paths are
            relative to that.
        scratch: A folder for a temporary file.

    Raises:
        Unusable: It is no such archive, or has what it must not have. Also while entries are read.
    """
    size = file.seek(0, 2)
    if size > MAX_ARCHIVE_BYTES:
        raise Unusable(f"the archive is larger than {MAX_ARCHIVE_BYTES} bytes")
    file.seek(0)
    magic = file.read(4)
    file.seek(0)
    budget = _Budget(size)
    try:
        if magic[:2] == b"PK":
            _check_directory(file, size)
            with zipfile.ZipFile(file) as archive:
                yield _from(_zip_entries(archive, budget), marker)
        elif magic[:2] == b"\x1f\x8b":
            with tempfile.TemporaryFile(dir=scratch) as plain:
                _gunzip(file, plain, budget)
                yield from _tar(plain, marker)
        else:
            yield from _tar(file, marker)
    except _DAMAGED as exc:
        raise Unusable("it is no zip, tar or tar.gz archive, or a damaged one") from exc


class _Budget:
    """How much may still be unpacked."""

    def __init__(self, packed: int) -> None:
        self._limit = min(MAX_UNPACKED_BYTES, max(_RATIO_COUNTS_FROM, packed * MAX_RATIO))
        self._used = 0

    def spend(self, size: int) -> None:
        self._used += size
        if self._used > self._limit:
            raise Unusable("unpacked it would be far too large")


_Found = tuple[str, bool, Callable[[], Iterator[bytes]] | None]
"""Name, whether it is executable, and the content; ``None`` for a folder."""


def _from(found: Iterator[_Found], marker: str) -> list[Entry]:
    tree = Tree()
    entries: list[Entry] = []
    for name, executable, chunks in found:
        if _is_litter(name):
            continue
        path = _safe(name)
        try:
            if chunks is None:
                tree.add_folder(path)
            else:
                tree.add(path)
                entries.append(Entry(path, executable, chunks))
        except ValueError as exc:
            raise Unusable(str(exc)) from None
    return _relative(entries, marker)


def _safe(name: str) -> str:
    try:
        return relative_path(name.removesuffix("/"))
    except ValueError as exc:
        raise Unusable(f"an entry of the archive has an unusable path: {exc}") from None


def _is_litter(name: str) -> bool:
    """What macOS puts into archives besides the files; and the folder that tar calls ``./``."""
    return name.startswith("__MACOSX/") or name.endswith(".DS_Store") or name in (".", "./")


def _relative(entries: Sequence[Entry], marker: str) -> list[Entry]:
    paths = {entry.path for entry in entries}
    if marker in paths:
        return list(entries)
    tops = {path.partition("/")[0] for path in paths}
    top = next(iter(tops), "")
    if len(tops) != 1 or f"{top}/{marker}" not in paths:
        raise Unusable(f"the archive has no {marker}")
    start = len(top) + 1
    return [Entry(entry.path[start:], entry.executable, entry.chunks) for entry in entries]


def _check_directory(file: BinaryIO, size: int) -> None:
    """Refuse a list of entries that would fill the memory: all of it is read at once."""
    tail_at = max(0, size - 2**16 - _END_OF_ZIP.size)
    file.seek(tail_at)
    tail = file.read()
    file.seek(0)
    at = tail.rfind(b"PK\x05\x06")
    # Without an end, or with the larger form of it, which only huge archives need.
    if (
        at < 0
        or len(tail) - at < _END_OF_ZIP.size
        or tail[max(0, at - 20) : at][:4] == b"PK\x06\x07"
    ):
        raise zipfile.BadZipFile
    _, _, _, _, count, directory_bytes, _, _ = _END_OF_ZIP.unpack_from(tail, at)
    if count > MAX_ENTRIES or directory_bytes > _MAX_DIRECTORY_BYTES:
        raise Unusable(f"the archive has more than {MAX_ENTRIES} entries")


def _zip_entries(archive: zipfile.ZipFile, budget: _Budget) -> Iterator[_Found]:
    for number, info in enumerate(archive.infolist()):
        if number >= MAX_ENTRIES:  # the end of the archive may lie about it
            raise Unusable(f"the archive has more than {MAX_ENTRIES} entries")
        mode = info.external_attr >> 16
        kind = stat.S_IFMT(mode)
        if info.flag_bits & 0x1:
            raise Unusable("the archive is encrypted")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise Unusable("the archive is compressed in an unusual way")
        # The name as it is in there: the library cuts it at a NUL.
        if info.orig_filename.endswith("/") or kind == stat.S_IFDIR:
            yield info.orig_filename, False, None
        elif kind not in (0, stat.S_IFREG):
            raise Unusable("the archive has a link or a device")
        else:
            yield (
                info.orig_filename,
                bool(mode & stat.S_IXUSR),
                lambda info=info: _zip_chunks(archive, info, budget),  # type: ignore[misc]
            )


def _zip_chunks(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, budget: _Budget
) -> Iterator[bytes]:
    with archive.open(info) as member:
        while chunk := member.read(_CHUNK_BYTES):
            budget.spend(len(chunk))
            yield chunk


def _gunzip(file: BinaryIO, plain: BinaryIO, budget: _Budget) -> None:
    with gzip.GzipFile(fileobj=file, mode="rb") as unpacked:
        while chunk := unpacked.read(_CHUNK_BYTES):
            budget.spend(len(chunk))
            plain.write(chunk)
    plain.seek(0)


def _tar(file: BinaryIO, marker: str) -> Iterator[list[Entry]]:
    with tarfile.open(fileobj=_Reluctant(file), mode="r:") as archive:
        yield _from(_tar_entries(archive), marker)


def _tar_entries(archive: tarfile.TarFile) -> Iterator[_Found]:
    for number, member in enumerate(archive):
        if number >= MAX_ENTRIES:
            raise Unusable(f"the archive has more than {MAX_ENTRIES} entries")
        if member.isdir():
            yield member.name, False, None
        elif member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or member.issparse():
            raise Unusable("the archive has a link or a device")
        else:
            yield (
                member.name,
                bool(member.mode & stat.S_IXUSR),
                lambda member=member: _tar_chunks(archive, member),  # type: ignore[misc]
            )


def _tar_chunks(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Iterator[bytes]:
    # It lies in a file of ours as it is, so that it cannot grow any more.
    content = archive.extractfile(member)
    if content is None:
        return
    with content:
        while chunk := content.read(_CHUNK_BYTES):
            yield chunk


class _Reluctant(RawIOBase):
    """A file that is not read in large pieces."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def read(self, size: int = -1, /) -> bytes:
        if not 0 <= size <= _MAX_READ_BYTES:
            raise tarfile.ReadError("a header asks for too much")
        return self._file.read(size)

    def seek(self, offset: int, whence: int = 0, /) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True
