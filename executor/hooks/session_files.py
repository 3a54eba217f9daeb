"""Files of a session, where an agent may have put anything: links are never followed.

On systems with directory descriptors no folder can be exchanged for a link while it is looked at;
elsewhere a look before each step is all there is.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import stat
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

from executor.plain_files import open_plain, read_plain
from executor.session_places import HOME, OWN

MAX_RECORD_BYTES: Final = 32 * 1024 * 1024

MAX_FILE_BYTES: Final = 1024**3
"""Files that are larger are neither read nor uploaded."""

_PIECE_BYTES: Final = 1024**2

_DIRECTORY: Final = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0)
_HAS_DESCRIPTORS: Final = os.open in os.supports_dir_fd and hasattr(os, "fwalk")


DirectoryOf = Callable[[str], Path]
"""Where a session has its directory, by its id; it need not exist."""


@dataclass(frozen=True, slots=True)
class SessionFile:
    """A regular file, open until the next one is asked for."""

    path: str
    """Relative, with slashes; what is not UTF-8 is replaced."""
    status: os.stat_result
    file: BinaryIO

    def sha256(self) -> str | None:
        """Of its content; ``None``: it has more than :data:`MAX_FILE_BYTES`. Blocks."""
        if self.status.st_size > MAX_FILE_BYTES:
            return None
        digest = hashlib.sha256()
        for _ in range(0, MAX_FILE_BYTES, _PIECE_BYTES):  # it may grow while it is read
            if not (piece := self.file.read(_PIECE_BYTES)):
                return digest.hexdigest()
            digest.update(piece)
        return None


def session_files(directory: Path) -> Generator[SessionFile]:
    """The regular files below *directory* in order, without git's and the agent's own. Blocks.

    What cannot be read is left out.
    """
    for parent, folders, names, descriptor in _walk(directory):
        folders[:] = sorted(
            name for name in folders if name != ".git" and not (parent == directory and name in OWN)
        )
        for name in sorted(names):
            with suppress(OSError):
                file = open_plain(
                    Path(name) if descriptor is not None else parent / name, descriptor
                )
                if file is None:
                    continue
                with file:
                    path = (parent / name).relative_to(directory).as_posix()
                    shown = path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
                    yield SessionFile(shown, os.fstat(file.fileno()), file)


def _walk(directory: Path) -> Iterator[tuple[Path, list[str], list[str], int | None]]:
    if _HAS_DESCRIPTORS:
        for parent, folders, names, descriptor in os.fwalk(directory):
            yield Path(parent), folders, names, descriptor
    else:
        for parent, folders, names in os.walk(directory):
            yield Path(parent), folders, names, None


def is_directory(path: Path) -> bool:
    """Whether it is one, and no link to one. Blocks."""
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except OSError:
        return False


def write_record(session_dir: Path, name: str, record: Any) -> None:
    """Replace ``.wegent/{name}`` by *record* as JSON, for its owner's eyes only. Blocks.

    Raises:
        OSError: Also when ``.wegent`` is a link or a file.
    """
    data = json.dumps(record, ensure_ascii=False, indent=1).encode("utf-8", "replace") + b"\n"
    temporary = f".{name}.{secrets.token_hex(4)}"
    with _Folder(session_dir) as folder:
        try:
            with os.fdopen(folder.create(temporary), "wb") as file:
                file.write(data)
            folder.rename(temporary, name)
        except BaseException:
            folder.remove(temporary)
            raise


def read_record(session_dir: Path, name: str) -> dict[str, Any]:
    """``.wegent/{name}``; empty when there is none that can be used: an agent may write there."""
    with suppress(OSError, ValueError, RecursionError), _Folder(session_dir) as folder:
        content = read_plain(folder.place(name), MAX_RECORD_BYTES + 1, folder.descriptor)
        if content is not None and len(content) <= MAX_RECORD_BYTES:
            record = json.loads(content)
            if isinstance(record, dict):
                return record
    return {}


class _Folder:
    """``.wegent`` of a session, open; made when it is missing."""

    def __init__(self, session_dir: Path) -> None:
        self._path = session_dir / HOME
        self.descriptor: int | None = None

    def __enter__(self) -> _Folder:
        if not _HAS_DESCRIPTORS:
            self._path.mkdir(mode=0o700, exist_ok=True)
            if not is_directory(self._path):
                raise NotADirectoryError(f"{self._path} is a link")
            return self
        session = os.open(self._path.parent, _DIRECTORY)
        try:
            with suppress(FileExistsError):
                os.mkdir(HOME, 0o700, dir_fd=session)
            self.descriptor = os.open(HOME, _DIRECTORY, dir_fd=session)
        finally:
            os.close(session)
        return self

    def __exit__(self, *_: object) -> None:
        if self.descriptor is not None:
            os.close(self.descriptor)

    def place(self, name: str) -> Path:
        return Path(name) if self.descriptor is not None else self._path / name

    def create(self, name: str) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        return os.open(self.place(name), flags, 0o600, dir_fd=self.descriptor)

    def rename(self, old: str, new: str) -> None:
        os.replace(
            self.place(old),
            self.place(new),
            src_dir_fd=self.descriptor,
            dst_dir_fd=self.descriptor,
        )

    def remove(self, name: str) -> None:
        with suppress(OSError):
            os.unlink(self.place(name), dir_fd=self.descriptor)
