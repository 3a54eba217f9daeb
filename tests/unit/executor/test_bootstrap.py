"""What a start makes of a home."""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path

import pytest

from executor.bootstrap import run_local
from executor.config import ExecutorSettings
from executor.home_lock import HomeLock
from executor.signals import StopSignals
from shared.errors import ConfigError
from shared.redaction import Redactor


async def start_and_stop(home: Path) -> None:
    """Run local mode against a backend that is not there, with a stop already asked for."""
    settings = await asyncio.to_thread(
        ExecutorSettings,
        WEGENT_EXECUTOR_HOME=str(home),
        WEGENT_BACKEND_URL="http://127.0.0.1:1",
        WEGENT_AUTH_TOKEN="token",
    )
    stop = StopSignals()
    stop.first.set()
    async with asyncio.timeout(20):
        await run_local(settings, stop, Redactor())


async def test_what_a_killed_executor_left_among_the_private_files_is_gone(tmp_path: Path) -> None:
    private = tmp_path / "home" / "private"
    (private / "claude-left").mkdir(parents=True)
    (private / "claude-left" / "mcp.json").write_text("secret")
    (private / "git-askpass.sh").write_text("old")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    (private / "link").symlink_to(outside)
    await start_and_stop(tmp_path / "home")
    assert list(private.iterdir()) == []
    assert (outside / "kept").exists()


async def test_a_second_executor_of_a_home_touches_nothing(tmp_path: Path) -> None:
    home = tmp_path / "home"
    lock = await asyncio.to_thread(HomeLock.acquire, home)
    (home / "private").mkdir()
    (home / "private" / "in-use").touch()
    with pytest.raises(ConfigError, match=f"pid {os.getpid()}"):
        await start_and_stop(home)
    lock.release()
    assert (home / "private" / "in-use").exists()
    assert sorted(path.name for path in home.iterdir()) == ["lock", "private"]
    await start_and_stop(home)  # the first has ended
    await start_and_stop(home)  # and so has this one


async def test_what_is_in_a_home_is_for_its_owner_alone(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o755)  # as its owner made it
    await start_and_stop(home)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in home.iterdir()}
    assert {name: oct(mode) for name, mode in modes.items() if mode & 0o077} == {}
    assert {"claude", "private", "workspace", "state.db", "executor_id", "lock"} <= modes.keys()
