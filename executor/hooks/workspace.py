"""The Workspace hook: a manifest of the session's files, and its ``output/`` in object storage."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from executor.hooks.base import EventHook, TaskConfig
from executor.hooks.object_storage import ObjectStorage, StorageSettings, UnusableKey
from executor.hooks.session_files import (
    DirectoryOf,
    is_directory,
    read_record,
    session_files,
    write_record,
)
from executor.session_places import OUTPUT
from shared.logging import get_logger
from shared.protocol.events import AgentEvent, EventType, utc_timestamp
from shared.shielding import in_thread

logger = get_logger("hooks")

MANIFEST: Final = "manifest.json"
UPLOADS: Final = "uploads.json"
"""What the storage has: SHA-256 by path, so that nothing is sent twice."""

MAX_FILES: Final = 20_000
"""How many files a manifest lists; the rest is left out, and it says so."""

TIMEOUT_S: Final = 900.0
"""For the end of a run: reading a large workspace, and uploading."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """The files of a session's directory at one time."""

    files: list[dict[str, Any]]
    """``{path, size, modified, sha256}``: the time in UTC with microseconds, the checksum ``None``
    when the file is too large."""
    truncated: bool


class WorkspaceHook(EventHook):
    """Records what a run has changed, and what the session's directory holds after it.

    Args:
        directory_of: Where the files are.
        storage: Where ``output/`` is brought; ``None``: nowhere.
    """

    events = frozenset({EventType.WORKSPACE_CHANGED})

    def __init__(self, directory_of: DirectoryOf, storage: StorageSettings | None) -> None:
        self._directory_of = directory_of
        self._storage = storage
        self._config: TaskConfig | None = None
        self._changed: Mapping[str, Any] = {"files": []}

    async def before_execution(self, config: TaskConfig) -> None:
        """Remember whose files it will be."""
        self._config = config

    async def on_event(self, event: AgentEvent) -> None:
        """Remember what was changed."""
        self._changed = event.data

    async def after_execution(self, success: bool, error: str | None) -> None:
        """Write the manifest, and upload what is new in ``output/``."""
        if self._config is None:
            return
        session_id = self._config.session_id
        directory = self._directory_of(session_id)
        if not await asyncio.to_thread(is_directory, directory):
            return  # the run did not get that far
        taken_at = utc_timestamp()
        before = await asyncio.to_thread(read_record, directory, MANIFEST)
        manifest = await asyncio.to_thread(take_manifest, directory, before)
        record = {
            "session_id": session_id,
            "run_id": self._config.run_id,
            "attempt": self._config.attempt,
            "success": success,
            "error": error,
            "taken_at": taken_at,
            "changed": self._changed,
            "files": manifest.files,
            "truncated": manifest.truncated,
        }
        newest = await asyncio.to_thread(read_record, directory, MANIFEST)
        if str(newest.get("taken_at", "")) <= taken_at:  # a later run may have been faster
            await asyncio.to_thread(write_record, directory, MANIFEST, record)
        if self._storage is not None:
            storage = await ObjectStorage.connect(self._storage)
            await _upload(storage, directory, session_id)


def take_manifest(directory: Path, before: Mapping[str, Any]) -> Manifest:
    """Look at all files; those as in the manifest *before* are not read again. Blocks."""
    known = _known(before)
    files: list[dict[str, Any]] = []
    for found in session_files(directory):
        if len(files) >= MAX_FILES:
            return Manifest(files, truncated=True)
        size, modified = found.status.st_size, _time(found.status.st_mtime_ns)
        entry = {"path": found.path, "size": size, "modified": modified}
        sha256 = known.get((found.path, size, modified)) or found.sha256()
        files.append({**entry, "sha256": sha256})
    return Manifest(files, truncated=False)


async def _upload(storage: ObjectStorage, directory: Path, session_id: str) -> None:
    """Bring ``output/`` to ``{session_id}/output/``, as far as it is not there.

    Raises:
        StorageFailed: What had been stored by then is remembered.
    """
    output = directory / OUTPUT
    if not await asyncio.to_thread(is_directory, output):
        return
    stored = await asyncio.to_thread(read_record, directory, UPLOADS)
    now: dict[str, Any] = {}
    uploaded = 0
    files = session_files(output)
    try:
        # Not left to themselves when this is cut off: a generator at work cannot be closed.
        while (found := await in_thread(next, files, None)) is not None:
            sha256 = await in_thread(found.sha256)
            if sha256 is None:
                logger.warning("too large to be uploaded: %s", found.path)
                continue
            if stored.get(found.path) != sha256:
                found.file.seek(0)
                try:
                    await storage.put(f"{session_id}/{OUTPUT}/{found.path}", found.file)
                except UnusableKey as exc:
                    logger.warning("not uploaded: %s", exc)
                    continue
                uploaded += 1
            now[found.path] = sha256
    finally:
        await asyncio.to_thread(files.close)
        if uploaded:
            await asyncio.to_thread(write_record, directory, UPLOADS, {**stored, **now})
            logger.info("uploaded %d files of session %s", uploaded, session_id)


def _known(manifest: Mapping[str, Any]) -> dict[tuple[str, int, str], str]:
    """SHA-256 by path, size and time, as far as what an agent may have written there is usable."""
    known = {}
    files = manifest.get("files")
    for file in files if isinstance(files, list) else ():
        match file:
            case {"path": str(), "size": int(), "modified": str(), "sha256": str()}:
                known[file["path"], file["size"], file["modified"]] = file["sha256"]
            case _:
                pass
    return known


def _time(nanoseconds: int) -> str:
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    moment = datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest // 1000)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
