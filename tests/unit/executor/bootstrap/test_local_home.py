"""What a start makes of a home."""

from __future__ import annotations

import asyncio
import logging
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from executor.bootstrap.local import run_local
from executor.config.local import LocalSettings
from executor.home_lock import HomeLock
from executor.signals import StopSignals
from shared.errors import ConfigError
from shared.redaction import Redactor
from tests.fakes.claude import NEW, executable_with, says

STARTED = "Starting Local Executor Runner"
"""What the log says when the search for a CLI is over."""


async def start_and_stop(
    home: Path, claude: Path | None = None, *, once: Callable[[], bool] = lambda: True
) -> None:
    """Run local mode against a backend that is not there, and ask for a stop *once* that holds."""
    settings = await asyncio.to_thread(
        LocalSettings,
        WEGENT_EXECUTOR_HOME=str(home),
        WEGENT_BACKEND_URL="http://127.0.0.1:1",
        WEGENT_AUTH_TOKEN="token",
        WEGENT_CLAUDE_PATH=claude,
    )
    stop = StopSignals()
    async with asyncio.timeout(50):
        running = asyncio.create_task(run_local(settings, stop, Redactor()))
        while not once():  # noqa: ASYNC110 - what is in the log
            await asyncio.sleep(0.01)
        stop.first.set()
        await running


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


@pytest.mark.skipif(sys.platform == "win32", reason="the CLIs here are shell scripts")
async def test_a_carried_cli_is_unpacked_and_replaces_its_predecessors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    content = f"#!/bin/sh\necho '{NEW} (Claude Code)'\n".encode()
    monkeypatch.setattr(sys, "executable", str(executable_with(content, tmp_path / "program")))
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    old = says("2.1.319", tmp_path / "home" / "cache" / "claude" / "2.1.319" / "claude")
    await start_and_stop(tmp_path / "home", once=lambda: STARTED in caplog.text)
    unpacked = tmp_path / "home" / "cache" / "claude" / NEW / "claude"
    assert unpacked.read_bytes() == content
    assert not old.exists()
    assert f"Claude Code {NEW}: {unpacked} (carried by this program)" in caplog.text


async def test_a_stop_does_not_wait_until_a_carried_cli_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(executable_with(b"cli", tmp_path / "program")))
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    await start_and_stop(tmp_path / "home")
    assert list((tmp_path / "home" / "cache" / "claude" / NEW).iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="the CLIs here are shell scripts")
async def test_a_cli_that_is_passed_over_is_told_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    broken = b"#!/bin/sh\necho 'wrong libc' >&2\nexit 1\n"
    monkeypatch.setattr(sys, "executable", str(executable_with(broken, tmp_path / "program")))
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    await start_and_stop(tmp_path / "home", once=lambda: "passed over" in caplog.text)
    (told,) = [record for record in caplog.records if "passed over" in record.getMessage()]
    assert told.levelno == logging.WARNING
    assert told.getMessage().endswith("fails when asked for its version: wrong libc")


async def test_a_wrong_choice_of_cli_is_an_error_that_does_not_keep_the_executor_from_starting(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    nothing = tmp_path / "nothing"
    await start_and_stop(tmp_path / "home", nothing, once=lambda: "not found" in caplog.text)
    (told,) = [record for record in caplog.records if "not found" in record.getMessage()]
    assert told.levelno == logging.ERROR
    assert f"{nothing} (WEGENT_CLAUDE_PATH) does not exist" in told.getMessage()
    assert "correct WEGENT_CLAUDE_PATH" in told.getMessage()
