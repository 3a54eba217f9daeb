"""The small disk is full when it is said to be, and nothing of it is left."""

from __future__ import annotations

import asyncio
import errno
from pathlib import Path

import pytest

from bench._full_disk import DiskNotPermitted, small_disk


async def test_a_small_disk_can_be_filled_and_freed_and_vanishes(tmp_path: Path) -> None:
    place = tmp_path / "disk"
    try:
        async with small_disk(place, 2) as disk:
            kept = place / "kept"
            await asyncio.to_thread(kept.write_bytes, b"before")
            await disk.fill()
            with pytest.raises(OSError) as error:
                await asyncio.to_thread((place / "more").write_bytes, bytes(8192))
            assert error.value.errno == errno.ENOSPC
            await disk.free()
            await asyncio.to_thread((place / "more").write_bytes, bytes(8192))
            assert kept.read_bytes() == b"before"
    except DiskNotPermitted as exc:
        pytest.skip(f"NOTHING WAS TESTED: no small disk can be mounted here: {exc}")
    assert list(place.iterdir()) == []


async def test_where_nothing_may_be_mounted_it_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DiskNotPermitted, match="there is no mount"):
        async with small_disk(tmp_path / "disk", 2):
            pass
