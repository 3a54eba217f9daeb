"""Skills that lie ready for an agent, in a folder that nobody may change before it reads them."""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from executor.plain_files import read_plain


@dataclass(frozen=True, slots=True)
class SkillSet:
    """The skills of one run.

    The folder is a plugin of Claude Code: ``.claude-plugin/plugin.json`` and
    ``skills/{name}/SKILL.md`` with whatever a skill has besides.
    """

    folder: Path
    names: tuple[str, ...]
    digest: str
    """Of all that lies in the folder: :func:`folder_digest`."""

    def is_untouched(self) -> bool:
        """Whether the folder is as it was made. Reads all of it: blocks."""
        return folder_digest(self.folder) == self.digest


def folder_digest(folder: Path) -> str | None:
    """A digest of all names, modes and contents in *folder*; ``None``: not plain files alone.

    Nothing is followed. Blocks.
    """
    found: list[tuple[str, bool, bytes]] = []
    try:
        if not stat.S_ISDIR(folder.lstat().st_mode):
            return None
        for parent, folders, names in os.walk(folder, onerror=_raise):
            if any(Path(parent, name).is_symlink() for name in folders):
                return None
            for name in names:
                path = Path(parent, name)
                status = path.lstat()
                content = read_plain(path, status.st_size + 1)
                if content is None:
                    return None
                executable = bool(status.st_mode & stat.S_IXUSR)
                inside = path.relative_to(folder).as_posix()
                found.append((inside, executable, hashlib.sha256(content).digest()))
    except OSError:
        return None
    return hashlib.sha256(repr(sorted(found)).encode("utf-8", "surrogateescape")).hexdigest()


def _raise(error: OSError) -> None:
    raise error
