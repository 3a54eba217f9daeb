"""The program where it is installed, and how another version takes its place.

A single file is exchanged itself. A program that is a folder lies in
``{home}/versions/{start of its archive's checksum}/`` and is started through the link
``{home}/bin/wegent-executor``: the link is exchanged, and what runs keeps its files. Either way it
is one rename, and the version before stays beside it as ``{name}.previous``.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
import stat
import sys
import tarfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from executor.updating.errors import UpdateError
from shared.private_files import make_private_directory

LIBRARIES: Final = "_internal"
"""Where a program that is a folder has everything but itself."""

ID_LENGTH: Final = 12
"""Characters of an archive's checksum that name its folder, here and in scripts/install.sh."""

_GZIP: Final = b"\x1f\x8b"


@dataclass(frozen=True, slots=True)
class InstalledProgram:
    """What an operator starts.

    Attributes:
        entry: The file, or the link to it, that is exchanged. It names the program whatever version
            it has.
        versions: Where folders lie; ``None`` for a single file.
    """

    entry: Path
    versions: Path | None = None

    @classmethod
    def of(cls, executable: Path) -> Self:
        """How *executable*, which has no links in its path, is installed.

        Raises:
            UpdateError: It is a folder that was put there in another way.
        """
        if not (executable.parent / LIBRARIES).is_dir():
            return cls(executable)
        versions = executable.parent.parent
        entry = versions.parent / "bin" / executable.name
        if entry.is_symlink() and entry.resolve() == executable:
            return cls(entry, versions)
        raise UpdateError(
            f"{executable.parent} is a folder that scripts/install.sh has not installed",
            hint="put the new folder in its place, or install its archive with that script",
        )

    @property
    def previous(self) -> Path:
        """Where the version before is, if there is one."""
        return self.entry.with_name(f"{self.entry.name}.previous")

    @property
    def lock_file(self) -> Path:
        """Whoever exchanges the program has this one locked; it stays."""
        return self.entry.with_name(f".{self.entry.name}.lock")

    def is_version(self, sha256: str) -> bool:
        """Whether the program here is what has this checksum, as a file or as an archive."""
        if self.versions is not None:
            return self.entry.resolve().parent.name == sha256[:ID_LENGTH]
        with self.entry.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == sha256

    def temporary(self) -> Path:
        """A new name beside the program, on the same file system; :meth:`tidy` removes it."""
        return self.entry.with_name(f".{self.entry.name}.new-{secrets.token_hex(4)}")

    def prepare(self, fetched: Path, sha256: str) -> Path:
        """Make of a fetched file what :meth:`exchange` takes, written through to the disk.

        Raises:
            UpdateError: It is a folder's archive where a single file is needed, or the reverse.
        """
        prepared = self._prepare(fetched, sha256)
        if hasattr(os, "sync"):
            # After a power loss its name must not lead to nothing. Here, where all still runs: a
            # disk may take its time.
            os.sync()
        return prepared

    def _prepare(self, fetched: Path, sha256: str) -> Path:
        with fetched.open("rb") as file:
            is_archive = file.read(len(_GZIP)) == _GZIP
        if self.versions is None:
            if is_archive:
                raise UpdateError(
                    "this is an archive, and the program here is a single file",
                    hint="take the single file, or install the archive with scripts/install.sh",
                )
            # Others may have to run it as well, as in a folder for all users.
            fetched.chmod(stat.S_IMODE(self.entry.stat().st_mode) | stat.S_IRWXU)
            return fetched
        if not is_archive:
            raise UpdateError("the program here is a folder: only its .tar.gz can take its place")
        folder = self.versions / sha256[:ID_LENGTH]
        if not folder.exists():
            unpacked = self.versions / self.temporary().name
            _unpack(fetched, unpacked, self.entry.name).rename(folder)
        link = self.temporary()
        link.symlink_to(Path("..") / self.versions.name / folder.name / self.entry.name)
        return link

    def prepare_previous(self) -> Path:
        """What :meth:`exchange` takes, to go back to the version before.

        Raises:
            UpdateError: There is none.
        """
        if not os.path.lexists(self.previous):
            raise UpdateError(f"there is no version before this one: no {self.previous}")
        prepared = self.temporary()
        _duplicate(self.previous, prepared)
        return prepared

    def exchange(self, prepared: Path) -> None:
        """Put *prepared* into the program's place, and keep what was there as the previous one.

        At every moment one of the two is there, except on Windows, which cannot replace a program
        that runs but can rename it.
        """
        if sys.platform == "win32":
            self._exchange_by_renames(prepared)
            return
        kept = self.temporary()
        _duplicate(self.entry, kept)
        kept.replace(self.previous)
        prepared.replace(self.entry)

    def put_back(self) -> None:
        """Undo :meth:`exchange`; there is no previous version then."""
        if sys.platform == "win32":  # what runs there can be renamed, but not replaced
            with suppress(FileNotFoundError):
                self.entry.rename(self.temporary())
        self.previous.replace(self.entry)

    def tidy(self) -> None:
        """Remove what updates have left, and the versions that neither name leads to."""
        for left in self.entry.parent.glob(f".{self.entry.name}.new-*"):
            with suppress(OSError):  # on Windows it may still run
                left.unlink()
        if self.versions is None:
            return
        in_use = {name.resolve().parent for name in (self.entry, self.previous)}
        for folder in self._folders(self.versions):
            if folder not in in_use:
                shutil.rmtree(folder, ignore_errors=True)

    def _folders(self, versions: Path) -> Iterator[Path]:
        ours = re.compile(rf"[0-9a-f]{{{ID_LENGTH}}}|\.{re.escape(self.entry.name)}\.new-.*")
        for folder in versions.iterdir():
            if ours.fullmatch(folder.name):
                yield folder.resolve()

    def _exchange_by_renames(self, prepared: Path) -> None:
        if self.previous.exists():
            # It may be the program that does this, which can be renamed but not replaced.
            self.previous.rename(self.temporary())
        self.entry.rename(self.previous)
        try:
            prepared.rename(self.entry)
        except OSError:
            self.put_back()
            raise


def _duplicate(source: Path, target: Path) -> None:
    """Give the program *source* another name; a link is a link again."""
    if source.is_symlink():
        target.symlink_to(source.readlink())
        return
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        shutil.copy2(source, target)


def _unpack(archive: Path, folder: Path, name: str) -> Path:
    """Unpack into the new *folder*; return the folder in there that has the program *name*."""
    make_private_directory(folder)
    try:
        with tarfile.open(archive, "r:gz") as tar:
            _extract(tar, folder)
    except (tarfile.TarError, OSError, EOFError) as exc:
        raise UpdateError(f"the archive cannot be unpacked: {exc}") from exc
    for inner in folder.iterdir():
        if (inner / name).is_file():
            return inner
    raise UpdateError(f"the archive does not hold a folder with {name} in it")


def _extract(tar: tarfile.TarFile, folder: Path) -> None:
    """Unpack what stays in *folder*.

    Raises:
        tarfile.TarError: Something would not, or is neither file, folder nor link.
    """
    if hasattr(tarfile, "data_filter"):
        tar.extractall(folder, filter="data")
        return
    # Python before 3.11.4, which Debian 12 has, knows no filters.
    for member in tar:
        path = folder / member.name
        target = (path.parent if member.issym() else folder) / member.linkname
        inside = all(each.resolve().is_relative_to(folder.resolve()) for each in (path, target))
        if not inside or not (member.isreg() or member.isdir() or member.issym() or member.islnk()):
            raise tarfile.TarError(f"{member.name} does not belong in there")
        member.mode &= 0o755
        tar.extract(member, folder)
