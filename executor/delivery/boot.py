"""Which run of the operating system this is: by it a loss of power can be told from a kill."""

from __future__ import annotations

from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def boot_id() -> str | None:
    """Another text after each start of the system; ``None`` where it gives none. Blocks."""
    try:
        return _BOOT_ID.read_text("ascii").strip() or None
    except OSError:
        return None
