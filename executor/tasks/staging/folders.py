"""Folders of a session that are filled beside their place and then put there as a whole.

An agent can write beside them, and an MCP server of its may do so in this moment: nothing is
followed, and everything happens relative to folders that are held open.
"""

from __future__ import annotations

import os
import secrets
import shutil
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final

from shared.private_files import PRIVATE_DIRECTORY, PRIVATE_FILE

UNFINISHED: Final = ".staging"
"""How the name of a folder ends that is not in its place yet, or not any more."""

_BY_DESCRIPTOR: Final = os.open in os.supports_dir_fd and os.rename in os.supports_dir_fd
"""Where not (Windows), names are paths."""

_DIRECTORY: Final = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0)
_NEW_FILE: Final = (
    os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
)


class StagedFolder:
    """The folder *name* of a session, while it is made. Every method blocks.

    Use: :meth:`open`, :meth:`create` for each file, :meth:`put`; :meth:`discard` at last in any
    case, also after a failure.

    Args:
        session_dir: Trusted, and there.
    """

    def __init__(self, session_dir: Path, name: str) -> None:
        self._session_dir = session_dir
        self._name = name
        self._new = f".{secrets.token_hex(8)}{UNFINISHED}"
        self._parent: int | None = None
        self._root: int | None = None
        self._waiting = False
        """Whether there is a folder that is not in its place."""

    @property
    def path(self) -> Path:
        """Where the folder is until it is put."""
        return self._session_dir / self._new

    def open(self) -> None:
        """Make the folder, empty."""
        self.path.mkdir(mode=PRIVATE_DIRECTORY)
        self._waiting = True
        if _BY_DESCRIPTOR:
            self._parent = os.open(self._session_dir, _DIRECTORY)
            self._root = os.open(self._new, _DIRECTORY, dir_fd=self._parent)

    def create(self, path: str, *, executable: bool = False) -> BinaryIO:
        """A new file in it, with its folders; the caller closes it.

        Args:
            path: Relative and safe, with ``/``.
        """
        mode = PRIVATE_DIRECTORY if executable else PRIVATE_FILE
        *folders, name = path.split("/")
        if self._root is None:
            place = self.path.joinpath(*folders)
            place.mkdir(mode=PRIVATE_DIRECTORY, parents=True, exist_ok=True)
            return os.fdopen(os.open(place / name, _NEW_FILE, mode), "wb")
        folder = os.dup(self._root)
        try:
            for part in folders:
                with suppress(FileExistsError):
                    os.mkdir(part, PRIVATE_DIRECTORY, dir_fd=folder)
                inner = os.open(part, _DIRECTORY, dir_fd=folder)
                os.close(folder)
                folder = inner
            return os.fdopen(os.open(name, _NEW_FILE, mode, dir_fd=folder), "wb")
        finally:
            os.close(folder)

    def put(self) -> None:
        """Put it into its place; what was there, of whatever kind, is gone."""
        old = f".{secrets.token_hex(8)}{UNFINISHED}"
        try:
            self._rename(self._name, old)
        except FileNotFoundError:
            self._rename(self._new, self._name)
            self._waiting = False
            return
        try:
            self._rename(self._new, self._name)
        except OSError:
            self._rename(old, self._name)
            raise
        self._waiting = False
        self._remove(old)

    def discard(self) -> None:
        """Remove what has not been put; harmless in any state."""
        if self._waiting:
            self._waiting = False
            self._remove(self._new)
        for descriptor in (self._root, self._parent):
            if descriptor is not None:
                os.close(descriptor)
        self._root = self._parent = None

    def _rename(self, old: str, new: str) -> None:
        if self._parent is None:
            (self._session_dir / old).rename(self._session_dir / new)
        else:
            os.rename(old, new, src_dir_fd=self._parent, dst_dir_fd=self._parent)

    def _remove(self, name: str) -> None:
        remove_entry(self._session_dir, name, self._parent)


def remove_entry(folder: Path, name: str, descriptor: int | None = None) -> None:
    """Remove the entry *name* of *folder*, of whatever kind, as far as that can be. Blocks.

    *descriptor* is *folder*, held open; ``None`` where only its path is known.
    """
    place = folder / name if descriptor is None else Path(name)
    try:
        os.unlink(place, dir_fd=descriptor)
    except FileNotFoundError:
        return
    except OSError:  # a folder; which error it is depends on the system
        shutil.rmtree(place, ignore_errors=True, dir_fd=descriptor)
