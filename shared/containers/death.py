"""How a container ended: read from the engine while it still knows, and its log kept."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from shared.logging import get_logger
from shared.private_files import PRIVATE_FILE, make_private_directory
from shared.status import ErrorCode

if TYPE_CHECKING:
    from shared.containers.engine import Engine

logger = get_logger("containers")

SAVED_LINES: Final = 5000
SAVED_BYTES: Final = 2**20
KEPT_LOGS: Final = 100

SHOWN_LINES: Final = 20
SHOWN_CHARACTERS: Final = 500
"""Of each line, in a verdict."""

UNKNOWN_EXIT: Final = 255
"""The engine's exit code for a container whose end it was not there to see."""


@dataclass(frozen=True, slots=True)
class Death:
    """The end of a container.

    Attributes:
        exit_code: Of its first process; ``None``: nobody knows any more.
        out_of_memory: Whether the limit of its memory ended it.
        engine_lost: Whether it was the engine that went away, so that the run may begin again.
        removed: Whether somebody removed it, and its log with it.
        log: The last lines of what it wrote; not masked.
    """

    exit_code: int | None = None
    out_of_memory: bool = False
    engine_lost: bool = False
    removed: bool = False
    log: tuple[str, ...] = ()

    @property
    def error_code(self) -> ErrorCode:
        """The code of a verdict that this leads to."""
        return ErrorCode.OUT_OF_MEMORY if self.out_of_memory else ErrorCode.CONTAINER_FAILED

    @property
    def sentence(self) -> str:
        """What happened, in words, with the last line of the log if there is one."""
        said = f": {self.log[-1]}" if self.log else ""
        return f"{self._cause}{said}"

    @property
    def _cause(self) -> str:
        if self.engine_lost:
            return "the container ended because its engine went away"
        if self.removed:
            return "the container was removed by somebody else"
        if self.out_of_memory:
            return "the container ran out of memory"
        if self.exit_code is None:
            return "the container ended"
        return f"the container ended with exit code {self.exit_code}"


async def examine(engine: Engine, container_id: str, saved: Path) -> Death | None:
    """How a container ended, its log saved as *saved*; ``None``: it runs.

    Raises:
        ContainerError: The engine cannot tell.
    """
    state = await engine.inspect(container_id)
    if state is None:
        return Death(removed=True)
    if state.running:
        return None
    log = await save_log(engine, container_id, saved)
    return Death(
        exit_code=state.exit_code,
        out_of_memory=state.out_of_memory and state.exit_code != 0,
        engine_lost=state.exit_code == UNKNOWN_EXIT,
        log=tuple(line[:SHOWN_CHARACTERS] for line in log.splitlines()[-SHOWN_LINES:]),
    )


async def save_log(engine: Engine, container_id: str, saved: Path) -> str:
    """Write the end of a container's log to *saved*, which only its owner may read, and return it.

    Of the logs in that folder the oldest are deleted. An empty log is not written, and what the
    disk does not take is only returned.
    """
    log = (await engine.logs(container_id, SAVED_LINES))[-SAVED_BYTES:]
    if log:
        try:
            await asyncio.to_thread(_write, saved, log)
        except OSError as exc:
            logger.warning("the log of a container could not be saved: %s", exc.strerror)
    return log


def _write(saved: Path, log: str) -> None:
    make_private_directory(saved.parent)
    saved.touch(mode=PRIVATE_FILE)
    saved.write_text(log, encoding="utf-8", errors="replace")
    logs = sorted(saved.parent.glob("*.log"), key=lambda path: path.stat().st_mtime)
    for old in logs[:-KEPT_LOGS]:
        old.unlink(missing_ok=True)
