"""Which build of the program this is."""

from __future__ import annotations

from typing import Final

from executor.packaged.frozen import is_frozen
from shared.version import __version__

PROGRAM: Final = "wegent-executor"


def version_line() -> str:
    """``wegent-executor 0.1.0``, of a built program with ``(commit, platform)`` behind it."""
    if not is_frozen():
        return f"{PROGRAM} {__version__}"
    import wegent_build  # made by scripts/binary/stamp.py

    return f"{PROGRAM} {__version__} ({wegent_build.COMMIT}, {wegent_build.PLATFORM})"
