"""What counts as a full disk, and how a step waits for room; with a real one: test_disk_full."""

from __future__ import annotations

import asyncio
import errno

import pytest

from executor.tasks import disk_room
from executor.tasks.disk_room import is_disk_full, with_room
from executor.tasks.repository.git import GitFailed
from shared.errors import RunError
from shared.status import ErrorCode

FULL = OSError(errno.ENOSPC, "No space left on device")


def hidden(cause: Exception) -> RunError:
    """A verdict that does not show what led to it."""
    try:
        try:
            raise cause
        except (OSError, GitFailed):
            raise RunError(ErrorCode.CLONE_FAILED, "cannot clone") from None
    except RunError as exc:
        return exc


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (FULL, True),
        (OSError(errno.EDQUOT, "quota"), True),
        (OSError(errno.EACCES, "no"), False),
        (hidden(FULL), True),
        (hidden(GitFailed("x", stderr="fatal: write error: No space left on device")), True),
        (hidden(GitFailed("x", stderr="remote: fatal: No space left on device")), False),
        (hidden(GitFailed("x", stderr="fatal: not found")), False),
        (RunError(ErrorCode.CLONE_FAILED, "No space left on device"), False),
    ],
)
def test_a_full_disk_is_recognised_however_it_is_told(error: Exception, full: bool) -> None:
    assert is_disk_full(error) is full


class Steps:
    """A step that fails as the test says, and the pause of its run."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.taken = 0
        self.warnings: list[str] = []
        self.unpaused = asyncio.Event()
        self.unpaused.set()

    async def take(self) -> str:
        self.taken += 1
        if self.failures:
            raise self.failures.pop(0)
        return "done"

    async def go(self) -> str:
        async def unpaused() -> None:
            await self.unpaused.wait()

        async with asyncio.timeout(30):
            return await with_room(self.take, unpaused=unpaused, warn=self.warnings.append)


async def test_a_step_is_taken_again_until_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk_room, "FIRST_PAUSE_S", 0.001)
    steps = Steps(FULL, hidden(FULL), FULL)
    assert await steps.go() == "done"
    assert steps.taken == 4
    assert len(steps.warnings) == 1


async def test_any_other_failure_is_raised_at_once() -> None:
    steps = Steps(RunError(ErrorCode.CLONE_FAILED, "no such branch"))
    with pytest.raises(RunError, match="no such branch"):
        await steps.go()
    assert (steps.taken, steps.warnings) == (1, [])


async def test_nothing_is_begun_while_the_run_is_paused() -> None:
    steps = Steps()
    steps.unpaused.clear()
    going = asyncio.create_task(steps.go())
    await asyncio.sleep(0)
    assert steps.taken == 0
    steps.unpaused.set()
    assert await going == "done"
