"""Writing files into a folder that an agent can write to as well.

Nothing there is followed: the folder is opened without following links and everything else happens
relative to it. A file appears under its name only when it is complete.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
import stat
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from executor.tasks.staging.attachment_names import numbered
from shared.errors import RunError
from shared.shielding import in_thread
from shared.status import ErrorCode

_PART: Final = ".part-"
"""How the name of a file begins that is not complete yet."""

_NO_FOLLOW: Final = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)


@dataclass(frozen=True, slots=True)
class AttachmentFolder:
    """The attachments' folder, held open where the platform can.

    Attributes:
        descriptor: What names are relative to; ``None`` where only paths work (Windows).
    """

    path: Path
    descriptor: int | None

    async def write(self, name: str, chunks: AsyncGenerator[bytes], taken: set[str]) -> str:
        """Write *chunks* to a file *name*, or with a number when that name is taken.

        Args:
            name: Safe.
            taken: Case-folded names that must not be used, even for the same content.

        Returns:
            The name of the file, which may have been there with this very content.
        """
        part = _Part(self)
        try:
            await in_thread(part.open)
            async for chunk in chunks:
                await in_thread(part.append, chunk)
            return await in_thread(part.keep, name, taken)
        finally:
            await in_thread(part.discard)
            await chunks.aclose()

    def create(self, name: str) -> int:
        """Open a file that must not exist yet; its descriptor."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_FOLLOW
        return os.open(self._at(name), flags, 0o600, dir_fd=self.descriptor)

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        with suppress(FileNotFoundError):
            os.unlink(self._at(name), dir_fd=self.descriptor)

    def rename(self, old: str, new: str) -> None:
        """Move a file, in one step and replacing *new*."""
        fd = self.descriptor
        os.replace(self._at(old), self._at(new), src_dir_fd=fd, dst_dir_fd=fd)

    def clear(self) -> None:
        """Remove the incomplete files of an executor that was killed."""
        with os.scandir(self.path if self.descriptor is None else self.descriptor) as entries:
            names = [entry.name for entry in entries if entry.name.startswith(_PART)]
        for name in names:
            with suppress(OSError):  # a folder of the agent's
                self.remove(name)

    def sha256(self, name: str) -> bytes | None:
        """The digest of a regular file; ``None`` for anything else."""
        try:
            status = os.stat(self._at(name), dir_fd=self.descriptor, follow_symlinks=False)
            if not stat.S_ISREG(status.st_mode):
                return None
            flags = os.O_RDONLY | _NO_FOLLOW
            with os.fdopen(os.open(self._at(name), flags, dir_fd=self.descriptor), "rb") as file:
                return hashlib.file_digest(file, "sha256").digest()
        except OSError:
            return None

    def _at(self, name: str) -> str:
        return name if self.descriptor is not None else str(self.path / name)


@asynccontextmanager
async def open_folder(path: Path) -> AsyncIterator[AttachmentFolder]:
    """The folder at *path*, made when it is missing; its parent must be trusted.

    For one at a time: incomplete files in it are taken for left behind.

    Raises:
        RunError: ``attachment_failed``: something else is in its place.
    """
    try:
        descriptor = await asyncio.to_thread(_open_folder, path)
    except OSError as exc:
        raise RunError(
            ErrorCode.ATTACHMENT_FAILED,
            f"the folder {path} cannot be used: {exc.strerror}",
            hint="remove what lies in its place",
        ) from None
    folder = AttachmentFolder(path, descriptor)
    try:
        await in_thread(folder.clear)
        yield folder
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _open_folder(path: Path) -> int | None:
    path.mkdir(mode=0o700, exist_ok=True)
    if os.open in os.supports_dir_fd:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    if path.resolve() != path.parent.resolve() / path.name:
        raise NotADirectoryError(0, "it is a link", str(path))
    return None


class _Part:
    """A file that is being written, under a name of its own. Every method blocks."""

    def __init__(self, folder: AttachmentFolder) -> None:
        self._folder = folder
        self._name = f"{_PART}{secrets.token_hex(8)}"
        self._descriptor: int | None = None
        self._sha256 = hashlib.sha256()

    def open(self) -> None:
        self._descriptor = self._folder.create(self._name)

    def append(self, chunk: bytes) -> None:
        if self._descriptor is None:
            raise ValueError("the part is not open")
        self._sha256.update(chunk)
        rest = memoryview(chunk)
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]

    def keep(self, name: str, taken: set[str]) -> str:
        """Give the file, now complete, its name, unless the same file is there."""
        self._close()
        number, candidate = 1, name
        while True:
            if candidate.casefold() not in taken:
                try:
                    # Takes the name without ever replacing a file.
                    os.close(self._folder.create(candidate))
                except FileExistsError:
                    if self._folder.sha256(candidate) == self._sha256.digest():
                        return candidate
                else:
                    self._folder.rename(self._name, candidate)
                    return candidate
            number += 1
            candidate = numbered(name, number)

    def discard(self) -> None:
        """Remove what has not been kept."""
        self._close()
        self._folder.remove(self._name)

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)
