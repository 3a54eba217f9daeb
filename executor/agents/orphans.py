"""What a killed executor left behind: found by what it had written down, and ended.

Every live session of an agent has a folder ``{private_dir}/claude-*`` that goes with it, and in it
a record of its process. A folder that is there when the executor starts belonged to a predecessor
that could not end it: its processes are ended, and the folder, which may hold keys, is removed.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import psutil

from executor.agents import process_ending, process_tree
from shared.logging import get_logger
from shared.private_files import PRIVATE_FILE

logger = get_logger("orphans")

FOLDERS: Final = "claude-*"
RECORD: Final = "process.json"

GRACE_S: Final = 2.0
"""From SIGTERM to SIGKILL."""

_SAME_START_S: Final = 2.0
"""Start times are told relative to the system's clock, which may have been set in between."""


@dataclass(frozen=True, slots=True)
class AgentRecord:
    """One agent's process, as it is written down."""

    mark: str
    """In the environment of the process and of nearly all that it starts."""
    pid: int | None = None
    """``None`` while it is being started."""
    started: float | None = None
    """Seconds since the epoch, as the system tells it."""
    owner_pid: int | None = None
    """The executor that it belongs to; ``None``: unknown, as good as gone."""
    owner_started: float | None = None

    def write(self, folder: Path) -> None:
        """Write it down in *folder*, which is private. Blocks.

        Not flushed to the disk: what ends the machine ends the process, too.
        """
        temporary = folder / f".{RECORD}"
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, PRIVATE_FILE)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(asdict(self), file)
        temporary.replace(folder / RECORD)

    @classmethod
    def of(cls, mark: str, pid: int | None = None) -> AgentRecord:
        """The record of a process of this executor, or of one that is about to start. Blocks."""
        owner = psutil.Process()
        started = None
        if pid is not None:
            with suppress(psutil.Error):
                started = psutil.Process(pid).create_time()
        return cls(mark, pid, started, owner.pid, owner.create_time())

    @classmethod
    def read(cls, folder: Path) -> AgentRecord | None:
        """The record in *folder*; ``None``: there is none that is whole. Blocks."""
        try:
            raw = json.loads((folder / RECORD).read_bytes())
            return cls(**raw) if isinstance(raw["mark"], str) else None
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def owned(self) -> bool:
        """Whether the executor that it belongs to still lives. Blocks."""
        return _find(self.owner_pid, self.owner_started) is not None

    def tree(self) -> list[psutil.Process]:
        """The process and all below it, unless its number is another's by now. Blocks."""
        process = _find(self.pid, self.started)
        if process is None:
            return []
        with suppress(psutil.Error):
            return [process, *process.children(recursive=True)]
        return []


def _find(pid: int | None, started: float | None) -> psutil.Process | None:
    """The process *pid*, if it is the one that began then; numbers are used again."""
    if pid is None or started is None:
        return None
    try:
        process = psutil.Process(pid)
        same = abs(process.create_time() - started) <= _SAME_START_S
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None
    except (psutil.Error, ValueError, TypeError):
        return None


async def end_left_behind(private_dir: Path, temporary: Path) -> int:
    """End what a killed predecessor of the same home left, and remove its private files.

    To be called before this executor starts agents of its own; what belongs to another one that
    lives is not touched. Takes some milliseconds when nothing is left, seconds when a process does
    not obey. *temporary* holds the temporary files of sandboxed sessions. Returns how many
    processes there were.
    """
    left = await asyncio.to_thread(_left_behind, private_dir)
    found = await asyncio.gather(*(_end(record) for record in left.values() if record is not None))
    for folder in left:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
    if not await asyncio.to_thread(lambda: list(private_dir.glob(FOLDERS))):
        await asyncio.to_thread(shutil.rmtree, temporary, ignore_errors=True)
    if count := sum(found):
        logger.warning("ended %d processes that an earlier executor had left", count)
    return count


def _left_behind(private_dir: Path) -> dict[Path, AgentRecord | None]:
    records = {folder: AgentRecord.read(folder) for folder in private_dir.glob(FOLDERS)}
    return {
        folder: record for folder, record in records.items() if record is None or not record.owned()
    }


async def _end(record: AgentRecord) -> int:
    tree = await asyncio.to_thread(record.tree)
    marked = await asyncio.to_thread(process_tree.marked, record.mark)
    await process_ending.end(tree, record.mark, grace_s=GRACE_S)
    return len({process.pid for process in (*tree, *marked)})
