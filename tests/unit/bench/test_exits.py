"""The end of a process is seen when it happens, and what outlives a cancel is counted."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from bench import cancel
from bench._diary import Diary
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


async def sleeper() -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec("sleep", "7412")


async def test_what_ends_after_the_aim_is_late_and_what_stays_is_left_and_killed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cancel, "AIM_GONE_S", 100.0)
    monkeypatch.setattr(cancel, "LEFT_AFTER_S", 200.0)
    seen = cancel.Cancelled()
    processes = [await sleeper() for _ in range(3)]
    in_time, late, left = (Exit(process.pid) for process in processes)
    processes[0].kill()
    assert await in_time.wait(10)
    cancelled_s = time.monotonic()
    assert await cancel.all_gone([in_time], cancelled_s, "a kind", seen) < 10
    assert (seen.late_s, seen.left) == ({}, {})
    processes[1].kill()
    assert await late.wait(10)
    assert 100 < await cancel.all_gone([late], cancelled_s - 101, "a kind", seen) < 200
    assert await cancel.all_gone([left], cancelled_s - 201, "a kind", seen) > 200
    assert [len(values) for values in seen.late_s.values()] == [1]
    assert seen.left == {"a kind": 1}
    async with asyncio.timeout(30):
        await asyncio.gather(*(process.wait() for process in processes))


async def test_what_an_agent_notes_is_told_once_and_the_pipe_vanishes(tmp_path: Path) -> None:
    with closing(Diary(tmp_path / "diary")) as diary:
        for what in ("started", "child", "interrupt"):
            await asyncio.to_thread(append, diary.path, json.dumps({"what": what}))
        async with asyncio.timeout(30):
            assert await diary.expect("child") == {"what": "child"}
            assert await diary.expect("interrupt") == {"what": "interrupt"}
    assert list(tmp_path.iterdir()) == []


def append(path: Path, line: str) -> None:
    with path.open("a") as file:
        file.write(f"{line}\n")
