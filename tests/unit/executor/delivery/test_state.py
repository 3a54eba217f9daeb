from __future__ import annotations

import asyncio
import functools
import sqlite3
import stat
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from executor.delivery.bounding import Bounds
from executor.delivery.run_rows import Spending
from executor.delivery.session_rows import SessionRecord
from executor.delivery.state import StateStore
from shared.errors import ConfigError
from shared.protocol.events import AgentEvent, EventType, NumberedEvent, RunRef
from tests.fakes.outbox import open_outbox

RECORD = SessionRecord("7", "claude_code", None, Path("/w/7/repo"), None)


async def test_a_session_is_found_again_after_a_restart(tmp_path: Path) -> None:
    store = await StateStore.open(tmp_path / "state.db")
    store.save_session(RECORD)
    later = replace(RECORD, sdk_session_id="abc", config_dir=Path("/c"), in_container=True)
    store.save_session(later)
    await store.close()
    store = await StateStore.open(tmp_path / "state.db")
    found = await store.session(7)
    await store.close()
    assert found == later


async def test_what_an_unfinished_run_has_spent_is_found_again_after_a_restart(
    tmp_path: Path,
) -> None:
    run = RunRef(7, 9)
    store = await StateStore.open(tmp_path / "state.db")
    await store.accept(run)
    assert await store.spending(run.key) is None
    store.save_spending(run.key, Spending(1, 0.5))
    store.save_spending(run.key, Spending(2, 0.5))
    await store.close()
    store = await StateStore.open(tmp_path / "state.db")
    found = await store.spending(run.key)
    await store.close()
    assert found == Spending(2, 0.5)


async def test_the_time_that_a_run_has_used_is_found_again_after_a_restart(
    tmp_path: Path,
) -> None:
    run, other = RunRef(7, 9), RunRef(7, 10)
    store = await StateStore.open(tmp_path / "state.db")
    await store.accept(run)
    await store.accept(other)
    store.save_time(run.key, 10.0, 60.0)
    before = time.monotonic()
    store.save_time(run.key, 25.0, None)
    after = time.monotonic()
    await store.close()
    store = await StateStore.open(tmp_path / "state.db")
    assert (await store.used_s(run.key), await store.used_s(("unknown", 1))) == (25.0, 0.0)
    found, unused = await store.runs()
    assert (found.used_s, found.limit_s) == (25.0, 60.0)
    assert (unused.used_s, unused.limit_s) == (0.0, None)
    assert unused.seen_at is None
    assert found.seen_at is not None
    assert before <= found.seen_at <= after
    await store.close()


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
    assert await asyncio.wait_for(asked, 30) == RECORD
    blocker.close()
    await store.close()


class Clocks:
    """The two clocks of a machine, moved by the test."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.awake = 1000.0
        self.wall = 1_700_000_000.0
        monkeypatch.setattr("executor.delivery.state.time.monotonic", lambda: self.awake)
        monkeypatch.setattr("executor.delivery.state.time.time", lambda: self.wall)

    def reboot(self, wall: float) -> None:
        self.awake, self.wall = 5.0, wall


DAY = 24 * 3600.0


async def told(home: Path, count: int) -> list[tuple[int, int]]:
    """What waits within the bounds after a run has told some more; first and last of each."""
    async with open_outbox(home) as (store, outbox):
        run = RunRef(7, 9)
        outbox.know(run, 0)
        for seq in range(outbox.last_seq(run.key) + 1, outbox.last_seq(run.key) + 1 + count):
            outbox.put(NumberedEvent(run, seq, AgentEvent(EventType.REASONING, {"content": "x"})))
        await store.events_after(0, 1)
        while await store.shrink(Bounds(), 0):
            pass
        events = [event for _, event in await store.events_after(0, 100)]
        return [(event.event.data.get("covers_from", event.seq), event.seq) for event in events]


@pytest.mark.parametrize("jump_days", [-20_000, -30, 30, 20_000])
async def test_no_jump_of_the_wall_clock_between_two_starts_ages_what_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jump_days: int
) -> None:
    clocks = Clocks(monkeypatch)
    assert await told(tmp_path, 2) == [(1, 1), (2, 2)]
    clocks.reboot(clocks.wall + jump_days * DAY)
    assert await told(tmp_path, 1) == [(1, 1), (2, 2), (3, 3)]
    clocks.wall -= jump_days * DAY
    assert await told(tmp_path, 1) == [(1, 1), (2, 2), (3, 3), (4, 4)]


async def test_the_time_of_all_starts_together_ages_what_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clocks = Clocks(monkeypatch)
    assert await told(tmp_path, 2) == [(1, 1), (2, 2)]
    for _ in range(5):
        async with open_outbox(tmp_path) as (store, _):
            clocks.awake += DAY / 4
            await store.shrink(Bounds(), 0)  # as it is looked after every minute
        clocks.reboot(clocks.wall)
    assert await told(tmp_path, 1) == [(1, 2), (3, 3)]


@pytest.mark.parametrize(("days", "known"), [(6.9, True), (7.1, False)])
async def test_a_finished_run_is_known_for_seven_days_whatever_the_wall_clock_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, days: float, known: bool
) -> None:
    clocks = Clocks(monkeypatch)
    verdict = AgentEvent(EventType.COMPLETED, {})
    async with open_outbox(tmp_path) as (store, outbox):
        await store.accept(RunRef(7, 9))
        outbox.put(NumberedEvent(RunRef(7, 9), 1, verdict))
        await store.events_after(0, 1)
        store.delete_acknowledged({("9", 1): 1})
    clocks.reboot(clocks.wall + 3650 * DAY)
    async with open_outbox(tmp_path) as (store, _):
        assert [record.run for record in await store.runs()] == [RunRef(7, 9)]
        clocks.wall = 0.0
        clocks.awake += days * DAY
        assert bool(await store.runs()) == known


async def test_a_question_without_an_answer_is_known_after_a_restart(tmp_path: Path) -> None:
    run = RunRef(0, "0")
    asked = [
        AgentEvent(EventType.INPUT_REQUIRED, {"request_id": "one"}),
        AgentEvent(EventType.INPUT_REQUIRED, {"request_id": "two"}),
        AgentEvent(EventType.INPUT_RESOLVED, {"request_id": "one", "outcome": "answered"}),
    ]
    async with open_outbox(tmp_path) as (store, outbox):
        await store.accept(run)
        for seq, event in enumerate(asked, 1):
            outbox.put(NumberedEvent(run, seq, event))
    async with open_outbox(tmp_path) as (store, _):
        (record,) = await store.runs()
        assert (record.run, list(record.open_questions)) == (run, ["two"])
        store.forget_run(run.key)
        tables = ("runs", "events", "open_questions", "open_messages")
        for table in tables:
            rows = await store._database.submit(functools.partial(_count, table))
            assert rows == 0, table


def _count(table: str, db: sqlite3.Connection) -> int:
    return int(db.execute(f"SELECT count(*) FROM {table}").fetchone()[0])
