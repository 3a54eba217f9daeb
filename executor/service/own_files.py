"""Telling the files that the program has made from those that somebody else made or changed."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Final, Literal

from shared.errors import ConfigError

MADE_BY: Final = "Made by `wegent-executor service install`"
SEAL: Final = "sha256:" + 64 * "0"
"""Where a text is to have its seal; see :func:`sealed`."""

_SEAL: Final = re.compile(r"sha256:[0-9a-f]{64}")


class NotOurs(ConfigError):
    """What is there is not, or no more, what the program has made."""

    code = "service_changed"


def sealed(text: str) -> str:
    """Put a checksum of *text* into it, in the place of :data:`SEAL`."""
    return text.replace(SEAL, f"sha256:{hashlib.sha256(text.encode()).hexdigest()}", 1)


def owner(path: Path) -> Literal["nobody", "us", "changed", "somebody"]:
    """Who has made the file at *path*: there is none, we have, we had, somebody else has."""
    try:
        text = path.read_bytes().decode(errors="replace")
    except FileNotFoundError:
        return "nobody"
    if MADE_BY not in text:
        return "somebody"
    return "us" if sealed(_SEAL.sub(SEAL, text, count=1)) == text else "changed"


def refuse_foreign(path: Path, *, force: bool, own_changes: str) -> None:
    """Refuse to touch what somebody else has made or changed, unless told to.

    Args:
        own_changes: Where changes of the operator's own belong.

    Raises:
        NotOurs: It is not ours, and *force* is not set.
    """
    found = owner(path)
    if force or found in ("nobody", "us"):
        return
    if found == "somebody":
        raise NotOurs(f"{path} was not made by this program", hint="--force has it replaced")
    raise NotOurs(
        f"{path} has been changed since it was made",
        hint=f"{own_changes}; --force gives the changes up",
    )
