"""What differs when this program is a file made by PyInstaller instead of a checkout.

Imports nearly nothing, not even pathlib, since it comes first at every start.
"""

from __future__ import annotations

import os
import sys
from collections.abc import MutableMapping
from typing import Final

_LIBRARY_PATH: Final = "LD_LIBRARY_PATH"
_LIBRARY_PATH_BEFORE: Final = "LD_LIBRARY_PATH_ORIG"

_LOADER_PREFIXES: Final = ("_PYI_", "_MEIPASS")
"""Variables by which PyInstaller's loaders know each other. With them, another program made by
PyInstaller would take itself for a part of this one."""


def is_frozen() -> bool:
    """Whether this program is a file made by PyInstaller."""
    return bool(getattr(sys, "frozen", False))


def unpacked_folder() -> str | None:
    """Where the loader has unpacked this start of a single file; ``None`` for anything else."""
    if not is_frozen():
        return None
    folder = str(getattr(sys, "_MEIPASS", ""))
    name = folder.replace("\\", "/").rpartition("/")[2]
    return folder if name.startswith("_MEI") else None


def restore_environment() -> None:
    """Make ``os.environ`` what it was before the loader changed it, so that children get that.

    What this process needs of the loader's variables it has read at its start.
    """
    if is_frozen():
        restore(os.environ, str(getattr(sys, "_MEIPASS", "")))


def restore(environ: MutableMapping[str, str], bundle: str) -> None:
    """Take out of *environ* what the loader of the program in the folder *bundle* has put there."""
    for name in [name for name in environ if name.startswith(_LOADER_PREFIXES)]:
        del environ[name]
    first, _, rest = environ.get(_LIBRARY_PATH, "").partition(":")
    if first != bundle:
        return
    # The loader has put its folder before the value, and only a value that was there aside.
    if rest:
        environ[_LIBRARY_PATH] = rest
        if environ.get(_LIBRARY_PATH_BEFORE) == rest:
            del environ[_LIBRARY_PATH_BEFORE]
    else:
        del environ[_LIBRARY_PATH]
