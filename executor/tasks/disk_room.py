"""Steps that meet a full disk wait until there is room again, instead of failing their run."""

from __future__ import annotations

import asyncio
import errno
import re
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from executor.tasks.repository.git import GitFailed
from shared.errors import RunError
from shared.logging import get_logger

logger = get_logger("disk_room")

T = TypeVar("T")

FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 30.0
"""Pauses double from the first to the longest: the only way to learn whether there is room enough
is to take the step again, and that may be a clone of minutes."""

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_GIT_SAYS_FULL: Final = re.compile(
    r"^(?!remote:).*(No space left on device|Disk quota exceeded)", re.MULTILINE
)


def is_disk_full(error: BaseException) -> bool:
    """Whether a full disk has led to *error*, however it is told."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in _FULL:
            return True
        if isinstance(cause, GitFailed) and _GIT_SAYS_FULL.search(cause.stderr):
            return True
        # Also behind `raise … from None`, which hides it from readers only.
        cause = cause.__cause__ or cause.__context__
    return False


async def with_room(
    step: Callable[[], Awaitable[T]],
    *,
    unpaused: Callable[[], Awaitable[None]],
    warn: Callable[[str], None],
) -> T:
    """The result of *step*, which is taken again for as long as the disk has no room for it.

    Without a limit of its own: whoever waits for this has one.

    Args:
        step: Can be taken again after it has failed.
        unpaused: Waits until the run is not paused; nothing is begun before.
        warn: Is told once that the run waits, in a sentence for the user.
    """
    pause_s = FIRST_PAUSE_S
    while True:
        await unpaused()
        try:
            return await step()
        except (OSError, RunError) as exc:
            if not is_disk_full(exc):
                raise
            logger.warning("no room on the disk, next attempt in %g s: %s", pause_s, exc)
        if pause_s == FIRST_PAUSE_S:
            warn("the executor's disk is full: the run waits until there is room")
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
