"""The end of a process is seen when it happens, and what outlives a cancel is counted."""

from __future__ import annotations

import asyncio
import sys
import time

import pytest

from bench import cancel
from bench._exits import Exit

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells of any process")


async def test_the_end_of_a_process_is_told_with_its_time() -> None:
    process = await asyncio.create_subprocess_exec("sleep", "7411")
    seen = Exit(process.pid)
    assert not await seen.wait(0.001)
    before = time.monotonic()
    process.kill()
    assert await seen.wait(10)
    assert seen.at_s is not None and before <= seen.at_s <= time.monotonic()
    await process.wait()
    with pytest.raises(ProcessLookupError):
        Exit(process.pid)


async def test_what_outlives_the_aim_is_an_orphan_and_not_killed_by_the_bench(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cancel, "AIM_GONE_S", 0.0)
    ended, alive = [await asyncio.create_subprocess_exec("sleep", "7412") for _ in range(2)]
    exits = [Exit(ended.pid), Exit(alive.pid)]
    ended.kill()
    assert await exits[0].wait(10)
    seen = cancel.Cancelled()
    at_s = time.monotonic()
    assert await cancel.all_gone(exits, at_s, "a kind", seen) >= 0
    assert seen.orphans == {"a kind": 1}
    assert alive.returncode is None
    alive.kill()
    await asyncio.gather(ended.wait(), alive.wait())
