"""Whose directory it is that only one session may have: written down in it, for the next start."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from executor.hooks.session_files import read_record, write_record

_RECORD: Final = "session.json"


def remember_session(session_dir: Path, session_id: str) -> None:
    """Note that the directory, which must be there, is this session's. Blocks.

    Raises:
        OSError: It cannot be written.
    """
    write_record(session_dir, _RECORD, {"session_id": session_id})


def bound_session(session_dir: Path) -> str | None:
    """Whose directory it is; ``None``: nobody's yet. Blocks."""
    session_id = read_record(session_dir.resolve(), _RECORD).get("session_id")
    return session_id if isinstance(session_id, str) and session_id else None
