from __future__ import annotations

import asyncio
import sqlite3
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from executor.delivery.state import SessionRecord, StateStore
from shared.errors import ConfigError

RECORD = SessionRecord("7", "claude_code", None, Path("/w/7/repo"), None)


async def test_a_session_is_found_again_after_a_restart(tmp_path: Path) -> None:
    store = await StateStore.open(tmp_path / "state.db")
    store.save_session(RECORD)
    store.save_session(replace(RECORD, sdk_session_id="abc", config_dir=Path("/c")))
    await store.close()
    store = await StateStore.open(tmp_path / "state.db")
    found = await store.session(7)
    await store.close()
    assert found == replace(RECORD, sdk_session_id="abc", config_dir=Path("/c"))


async def test_an_unknown_session_is_none(tmp_path: Path) -> None:
    store = await StateStore.open(tmp_path / "state.db")
    assert await store.session("other") is None
    await store.close()


async def test_the_file_is_the_owners_only(tmp_path: Path) -> None:
    store = await StateStore.open(tmp_path / "state.db")
    store.save_session(RECORD)
    await store.session(7)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    await store.close()
    assert set(modes.values()) == {0o600}, modes


async def test_a_damaged_file_is_a_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    path.write_text("this is not a database, and long enough to be noticed as none" * 20)
    with pytest.raises(ConfigError, match="cannot open"):
        await StateStore.open(path)


async def test_the_loop_goes_on_while_the_disk_is_busy(tmp_path: Path) -> None:
    store = await StateStore.open(tmp_path / "state.db")
    blocker = sqlite3.connect(tmp_path / "state.db", isolation_level=None, check_same_thread=False)
    blocker.execute("BEGIN IMMEDIATE")
    store.save_session(RECORD)
    asked = asyncio.create_task(store.session(7))
    await asyncio.get_running_loop().run_in_executor(None, blocker.execute, "ROLLBACK")
    assert await asyncio.wait_for(asked, 10) == RECORD
    blocker.close()
    await store.close()
