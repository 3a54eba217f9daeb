"""Paths of files from outside, refused unless they mean the same inside a folder everywhere."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from shared.protocol.repository import DEVICE_NAMES

MAX_PATH_BYTES: Final = 1024
"""Of a whole path, as UTF-8; with a session's folder before it, it stays below every system's."""

MAX_NAME_BYTES: Final = 255
"""Of one name, as UTF-8: the limit of ext4, APFS and most others."""

MAX_PATH_DEPTH: Final = 16

_COLLISION: Final = "two paths are one where upper and lower case do not count"
_FORBIDDEN: Final = re.compile(r'[\x00-\x1f\x7f<>:"|?*\\]')
_INVISIBLE: Final = frozenset({"Cc", "Cf", "Cs", "Co"})
"""Categories of Unicode: control characters; direction marks and joiners, which make a name look
like another; what is not text; what has no meaning of its own."""


def relative_path(text: str) -> str:
    """*text* as a relative path with ``/``, in Unicode's composed form.

    Raises:
        ValueError: It is absolute, leads out of its folder, or has a name that some system cannot
            have or reads as something else. Without the path.
    """
    path = unicodedata.normalize("NFC", text)
    if len(path.encode("utf-8", "replace")) > MAX_PATH_BYTES:
        raise ValueError(f"a path must be at most {MAX_PATH_BYTES} bytes long")
    if path.startswith("/"):
        raise ValueError("a path must be relative")
    names = path.split("/")
    while len(names) > 1 and names[0] == ".":  # as tar writes them
        names.pop(0)
    if len(names) > MAX_PATH_DEPTH:
        raise ValueError(f"a path must have at most {MAX_PATH_DEPTH} parts")
    for name in names:
        _check_name(name)
    return "/".join(names)


def _check_name(name: str) -> None:
    if name in ("", ".", ".."):
        raise ValueError("a path must not have empty parts, '.' or '..'")
    if _FORBIDDEN.search(name) or (not name.isascii() and _has_invisible(name)):
        raise ValueError('a path must not have invisible characters or any of <>:"|?*\\')
    if name != name.strip() or name.endswith("."):
        raise ValueError("no part of a path may begin or end with a space, or end with '.'")
    if len(name.encode()) > MAX_NAME_BYTES:
        raise ValueError(f"a name must be at most {MAX_NAME_BYTES} bytes long")
    if name.partition(".")[0].strip().lower() in DEVICE_NAMES:
        raise ValueError("a path must not have reserved device names")


def _has_invisible(name: str) -> bool:
    return any(unicodedata.category(character) in _INVISIBLE for character in name)


class Tree:
    """The files of one folder, none of which may be in another's way on any system."""

    def __init__(self) -> None:
        self._files: set[str] = set()
        self._folders: dict[str, str] = {}
        """By what a system without upper and lower case takes them for."""

    def add(self, path: str) -> None:
        """Add a file; *path* as :func:`relative_path` returns it.

        Raises:
            ValueError: It, or a folder it lies in, is there already in another way.
        """
        self._add_folders(path)
        key = _folded(path)
        if key in self._files or key in self._folders:
            raise ValueError(_COLLISION)
        self._files.add(key)

    def add_folder(self, path: str) -> None:
        """Add a folder, which may be there already under this very name; see :meth:`add`."""
        self._add_folders(f"{path}/")

    def _add_folders(self, path: str) -> None:
        names = path.split("/")[:-1]
        for count in range(1, len(names) + 1):
            folder = "/".join(names[:count])
            key = _folded(folder)
            if key in self._files or self._folders.setdefault(key, folder) != folder:
                raise ValueError(_COLLISION)


def _folded(path: str) -> str:
    # Twice, since folding can make sequences that compose; NFKC: "ﬁ" and "fi" are one on APFS.
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", path).casefold())
