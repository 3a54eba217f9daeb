"""Archives of skills that were fetched once, by their content."""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from io import BufferedRandom
from pathlib import Path
from typing import BinaryIO, Final

from shared.private_files import make_private_directory

MAX_CACHE_BYTES: Final = 512 * 2**20
"""Beyond that, what was used longest ago goes."""

_PART: Final = ".part-"
_PART_IS_OLD_S: Final = 24 * 3600.0
"""Then it is a killed executor's."""


class SkillCache:
    """Keeps archives in *folder* by their SHA-256; several runs and executors may use it at once.

    Every method blocks. What is in there is believed only after it was looked at.
    """

    def __init__(self, folder: Path, *, max_bytes: int = MAX_CACHE_BYTES) -> None:
        self._folder = folder
        self._max_bytes = max_bytes

    def find(self, sha256: str) -> BinaryIO | None:
        """The archive with this digest, open for reading; ``None``: it is not here."""
        path = self._folder / sha256
        try:
            file = path.open("rb")
        except OSError:
            return None
        if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
            file.close()
            path.unlink(missing_ok=True)
            return None
        with suppress(OSError):
            os.utime(path)
        file.seek(0)
        return file

    def begin(self) -> ArchivePart:
        """Begin to write an archive down; the caller drops it at last.

        Raises:
            OSError: It cannot be made.
        """
        make_private_directory(self._folder)
        descriptor, path = tempfile.mkstemp(prefix=_PART, dir=self._folder)
        return ArchivePart(os.fdopen(descriptor, "w+b"), Path(path))

    def keep(self, part: ArchivePart) -> str:
        """Keep a complete archive, which stays open for reading; its digest."""
        part.file.flush()
        part.file.seek(0)
        sha256 = hashlib.file_digest(part.file, "sha256").hexdigest()
        part.file.seek(0)
        with suppress(OSError):  # this run has the archive all the same
            part.path.replace(self._folder / sha256)
            self._prune()
        return sha256

    def _prune(self) -> None:
        now = time.time()
        kept: list[tuple[float, int, Path]] = []
        for path in self._folder.iterdir():
            with suppress(OSError):
                status = path.stat()
                if not path.name.startswith(_PART):
                    kept.append((status.st_mtime, status.st_size, path))
                elif now - status.st_mtime > _PART_IS_OLD_S:
                    path.unlink()
        total = sum(size for _, size, _ in kept)
        for _, size, path in sorted(kept):
            if total <= self._max_bytes:
                return
            path.unlink(missing_ok=True)
            total -= size


@dataclass(frozen=True, slots=True)
class ArchivePart:
    """An archive that is being written down."""

    file: BufferedRandom
    path: Path

    def drop(self) -> None:
        """Close it; unless it was kept, it is gone. Harmless again."""
        self.file.close()
        self.path.unlink(missing_ok=True)
