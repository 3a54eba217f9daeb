"""File names from outside, made into names that are safe on every platform."""

from __future__ import annotations

import unicodedata
from typing import Final

from shared.protocol.repository import DEVICE_NAMES

MAX_NAME_BYTES: Final = 255
"""As UTF-8: the limit of one name on ext4, APFS and most others."""

_MAX_EXTENSION_BYTES: Final = 20
_FORBIDDEN: Final = frozenset('<>:"|?*')  # on Windows; the separators are gone by then
_UNNAMED: Final = "attachment"


def safe_name(name: str) -> str:
    """The last part of *name* as a plain file name; never empty, hidden tricks or a path.

    What cannot be in a name becomes ``_``, invisible characters vanish, a device name or a leading
    ``-`` gets ``_`` in front, and a long name is shortened before its extension.
    """
    last = name.replace("\\", "/").rstrip("/").rpartition("/")[2]
    kept = "".join(
        "_" if c in _FORBIDDEN or unicodedata.category(c) == "Cc" else c
        for c in unicodedata.normalize("NFC", last)
        # Cf: direction marks and joiners, which make a name look like another; Cs: not text.
        if unicodedata.category(c) not in ("Cf", "Cs")
    )
    # Windows drops spaces and dots at the end, so that "a." would be "a".
    kept = kept.strip().rstrip(". ")
    if not kept.strip("."):
        kept = _UNNAMED
    if kept.startswith("-") or kept.partition(".")[0].strip().lower() in DEVICE_NAMES:
        kept = f"_{kept}"
    return _shortened(kept, "")


def numbered(name: str, number: int) -> str:
    """*name*, which is safe, with *number* before its extension: ``report-2.pdf``."""
    return _shortened(name, f"-{number}")


def _shortened(name: str, suffix: str) -> str:
    stem, dot, extension = name.rpartition(".")
    if not stem or len(extension.encode()) > _MAX_EXTENSION_BYTES:
        stem, dot, extension = name, "", ""
    ending = f"{suffix}{dot}{extension}"
    room = MAX_NAME_BYTES - len(ending.encode())
    return stem.encode()[:room].decode("utf-8", "ignore").rstrip(". ") + ending
