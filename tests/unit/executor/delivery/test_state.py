from __future__ import annotations

import asyncio
import sqlite3
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from executor.delivery.state import SessionRecord, StateStore
from shared.errors import ConfigError
from shared.protocol.events import RunRef

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


def garbage(path: Path) -> None:
    path.write_text("this is not a database, and long enough to be noticed as none" * 20)


def torn_page(path: Path) -> None:
    """One page in the middle is what a disk made of it."""
    with path.open("r+b") as file:
        file.seek(2 * 4096)
        file.write(b"\xff" * 4096)


@pytest.mark.parametrize("damage", [garbage, torn_page])
async def test_a_damaged_file_is_set_aside_and_the_log_says_what_is_lost(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[Path], None]
) -> None:
    path = tmp_path / "state.db"
    store = await StateStore.open(path)
    store.save_session(RECORD)
    await store.accept(RunRef(7, 9))
    await store.close()
    damage(path)
    damaged = path.read_bytes()
    store = await StateStore.open(path)
    assert await store.session(7) is None
    await store.accept(RunRef(7, 10))
    assert [record.run for record in await store.runs()] == [RunRef(7, 10)]
    await store.close()
    aside = tmp_path / "state.db.damaged"
    assert aside.read_bytes()[4096:] == damaged[4096:]  # opening it counts in the first page
    assert stat.S_IMODE(aside.stat().st_mode) == 0o600
    (line,) = [r.getMessage() for r in caplog.records if r.levelname == "ERROR"]
    assert "set aside as state.db.damaged" in line
    assert "accepted" in line


async def test_a_file_that_may_not_be_used_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "state.db").mkdir()
    with pytest.raises(ConfigError, match="cannot open"):
        await StateStore.open(tmp_path / "state.db")


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
