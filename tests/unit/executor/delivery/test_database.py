"""The database's thread: grouped commits, in order, and what happens when one is refused."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import sys
import threading
from itertools import chain
from pathlib import Path

import pytest

from executor.delivery import schema
from executor.delivery.database import MAX_GROUP, Database, DatabaseClosed
from executor.delivery.reserve import RESERVE_BYTES
from executor.delivery.schema import migrate
from executor.delivery.session_rows import SessionRecord
from executor.delivery.state import StateStore
from shared.errors import ConfigError
from shared.protocol.events import AgentEvent, EventType, NumberedEvent, RunRef

WRITER = """
import asyncio, sys
from pathlib import Path
from executor.delivery.outbox import Outbox
from executor.delivery.state import StateStore
from shared.protocol.events import AgentEvent, NumberedEvent, RunRef

async def main():
    store = await StateStore.open(Path(sys.argv[1]))
    run = RunRef(1, 2)
    await store.accept(run)
    for seq in range(1, 1_000_000):
        event = NumberedEvent(run, seq, AgentEvent("a.b", {"text": "x" * 300}))
        store.add_event(2 * seq, event, written=lambda last: print(last // 2, flush=True))
        if seq % 20 == 0:
            await asyncio.sleep(0.001)

asyncio.run(main())
"""


def table(db: sqlite3.Connection) -> None:
    db.execute("CREATE TABLE IF NOT EXISTS t (n INTEGER PRIMARY KEY) STRICT")


async def numbers(database: Database) -> list[int]:
    return await database.submit(
        lambda db: [n for (n,) in db.execute("SELECT n FROM t ORDER BY rowid")]
    )


async def test_work_is_done_in_order_and_neighbours_together(tmp_path: Path) -> None:
    database = await Database.open(tmp_path / "d.db", table)
    groups: list[list[int]] = []
    told: list[object] = []

    def insert(db: sqlite3.Connection, items: list[int]) -> int:
        groups.append(items)
        db.executemany("INSERT INTO t VALUES (?)", [(item,) for item in items])
        return items[-1]

    for number in range(5):
        database.add(insert, number, done=lambda last, _: told.append(last))
    database.tell(lambda db: db.execute("DELETE FROM t WHERE n < 3"))
    database.add(insert, 0, done=lambda last, _: told.append(last))
    assert await numbers(database) == [0, 3, 4]
    assert list(chain.from_iterable(groups)) == [0, 1, 2, 3, 4, 0]
    assert told[-2:] == [4, 0]
    await database.close()


async def test_work_that_fails_by_itself_does_not_take_its_neighbours_along(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    database = await Database.open(tmp_path / "d.db", table)
    database.tell(lambda db: db.execute("INSERT INTO t VALUES (1)"))
    database.tell(lambda db: db.execute("INSERT INTO t VALUES (1)"))
    failing = database.submit(lambda db: db.execute("INSERT INTO nowhere VALUES (1)"))
    database.tell(lambda db: db.execute("INSERT INTO t VALUES (2)"))
    with pytest.raises(sqlite3.OperationalError, match="nowhere"):
        await failing
    assert await numbers(database) == [1, 2]
    assert "state not written" in caplog.text
    await database.close()


async def test_an_item_that_fails_does_not_take_those_it_was_grouped_with_along(
    tmp_path: Path,
) -> None:
    database = await Database.open(tmp_path / "d.db", table)
    told: list[object] = []

    def insert(db: sqlite3.Connection, items: list[int]) -> int:
        db.execute("INSERT INTO t VALUES (?)", (items[0],))  # half of it is done when it fails
        db.executemany("INSERT INTO t VALUES (?)", [(item,) for item in items[1:]])
        return items[-1]

    begun, busy = threading.Event(), threading.Event()

    def occupy(_: sqlite3.Connection) -> None:
        begun.set()
        busy.wait(5)

    database.tell(occupy)
    await asyncio.to_thread(begun.wait, 5)
    for number in (1, 2, 10**30, 3, 4):
        database.add(insert, number, done=lambda last, error: told.append(error or last))
    busy.set()
    assert await numbers(database) == [1, 2, 3, 4]
    assert [type(one) for one in told] == [int, int, OverflowError, int, int]
    for number in (5, 6):
        database.add(insert, number, done=lambda last, error: told.append(error or last))
    assert await numbers(database) == [1, 2, 3, 4, 5, 6]
    await database.close()


def ruin(path: Path) -> None:
    """Write what is in the log to the file, and make nonsense of all but its first page."""
    other = sqlite3.connect(path)
    other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    other.close()
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (path.stat().st_size - 4096))


async def test_a_file_that_is_damaged_while_it_is_used_stops_everything_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = await StateStore.open(tmp_path / "state.db")
    for number in range(200):
        await store.accept(RunRef(1, f"run-{number:05d}-{'x' * 100}"))
    troubles: asyncio.Queue[str | None] = asyncio.Queue()
    store.on_disk_trouble(troubles.put_nowait)

    def forget_pages(db: sqlite3.Connection) -> None:
        db.execute("PRAGMA cache_size = 1")
        db.execute("PRAGMA shrink_memory")

    await store._database.submit(forget_pages)
    await asyncio.to_thread(ruin, tmp_path / "state.db")
    accepting = store.accept(RunRef(1, "one more"))
    async with asyncio.timeout(30):
        assert "damaged; restart the executor" in str(await troubles.get())
    await asyncio.wait({accepting}, timeout=1)
    assert not accepting.done()  # nothing is told to be written that is not
    assert troubles.empty()
    async with asyncio.timeout(30):
        await store.close()
    with pytest.raises(DatabaseClosed):
        await accepting
    assert "is damaged" in caplog.text


async def test_a_commit_that_must_survive_power_loss_is_written_through(tmp_path: Path) -> None:
    store = await StateStore.open(tmp_path / "state.db")
    database = store._database

    def level() -> asyncio.Future[tuple[int]]:
        return database.submit(lambda db: db.execute("PRAGMA synchronous").fetchone())

    assert await level() == (1,)
    begun, busy = threading.Event(), threading.Event()

    def occupy(_: sqlite3.Connection) -> None:
        begun.set()
        busy.wait(5)

    database.tell(occupy)
    await asyncio.to_thread(begun.wait, 5)  # what follows waits, and shares a commit
    shared = level()
    accepted = store.accept(RunRef(1, 2))
    busy.set()
    await accepted
    assert await shared == (2,)
    await store.close()


async def test_a_full_disk_does_not_hold_up_the_end_however_much_waits(tmp_path: Path) -> None:
    database = await Database.open(tmp_path / "d.db", table)
    await database.submit(lambda db: db.execute("PRAGMA max_page_count = 1"))  # no more than it has
    refused: list[Exception | None] = []

    def insert(db: sqlite3.Connection, items: list[int]) -> None:
        db.execute("CREATE TABLE big AS SELECT zeroblob(1000000)")

    for number in range(2 * MAX_GROUP):
        database.add(insert, number, done=lambda _, error: refused.append(error))
    database.tell(lambda db: db.execute("INSERT INTO t VALUES (1)"))  # for this there is room
    async with asyncio.timeout(50):
        await database.close()
    assert [type(error) for error in refused] == [DatabaseClosed] * 2 * MAX_GROUP
    again = await Database.open(tmp_path / "d.db", table)
    assert await numbers(again) == []  # what comes after a gap is not kept
    await again.close()


async def test_what_comes_after_the_end_is_told_so(tmp_path: Path) -> None:
    database = await Database.open(tmp_path / "d.db", table)
    last = database.submit(lambda db: db.execute("INSERT INTO t VALUES (1)").rowcount)
    await database.close()
    await database.close()
    assert await last == 1
    with pytest.raises(DatabaseClosed):
        await database.submit(lambda db: None)


async def test_a_reserve_is_kept_for_the_owner_only(tmp_path: Path) -> None:
    database = await Database.open(tmp_path / "d.db", table)
    await database.close()
    status = (tmp_path / "reserve").stat()
    assert (status.st_size, status.st_mode & 0o777) == (RESERVE_BYTES, 0o600)


async def test_a_file_of_the_first_version_keeps_its_sessions(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    old = sqlite3.connect(path)
    old.executescript(
        "CREATE TABLE sessions (task_id TEXT PRIMARY KEY, agent_type TEXT NOT NULL,"
        " sdk_session_id TEXT, cwd TEXT NOT NULL, config_dir TEXT,"
        " updated_at TEXT NOT NULL DEFAULT '') STRICT;"
        "INSERT INTO sessions VALUES ('7', 'claude_code', 'abc', '/w', NULL, '');"
        "PRAGMA user_version = 1;"
    )
    old.close()
    store = await StateStore.open(path)
    assert await store.session(7) == SessionRecord("7", "claude_code", "abc", Path("/w"), None)
    await store.accept(RunRef(1, 2))
    assert [record.run for record in await store.runs()] == [RunRef(1, 2)]
    await store.close()


async def test_a_file_of_the_second_version_keeps_its_runs_and_its_time(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    old = sqlite3.connect(path)
    old.executescript(schema._SESSIONS + schema._RUNS_AND_EVENTS + "PRAGMA user_version = 2;")
    old.execute(
        "INSERT INTO runs (subtask_id, attempt, ids, state, finished_at)"
        " VALUES ('2', 1, '[1, 2]', 'finished', 1700000000.0)"
    )
    old.commit()
    old.close()
    store = await StateStore.open(path)
    assert 1700000000.0 <= store.now() < 1700000100.0
    assert [(record.run, record.state) for record in await store.runs()] == [
        (RunRef(1, 2), "finished")
    ]
    await store.close()


async def test_a_file_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    newer = sqlite3.connect(path)
    newer.executescript("CREATE TABLE t (n); PRAGMA user_version = 99;")
    newer.close()
    for _ in range(2):
        with pytest.raises(ConfigError, match="newer version"):
            await StateStore.open(path)
    newer = sqlite3.connect(path)
    assert newer.execute("SELECT name FROM sqlite_schema").fetchall() == [("t",)]
    newer.close()


def test_tables_are_made_at_once_or_not_at_all(tmp_path: Path) -> None:
    db = sqlite3.connect(tmp_path / "x.db", isolation_level=None)
    db.execute("CREATE TABLE outbox_size (something TEXT)")
    with pytest.raises(sqlite3.OperationalError):
        migrate(db)
    db.close()
    db = sqlite3.connect(tmp_path / "x.db")
    assert db.execute("SELECT name FROM sqlite_schema").fetchall() == [("outbox_size",)]
    db.close()


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
async def test_everything_told_as_written_survives_sigkill_and_a_torn_log(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    writer = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WRITER, str(path), cwd=Path(__file__).parents[4],
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert writer.stdout is not None
    told = 0
    async with asyncio.timeout(30):
        while told < 2000:
            told = int(await writer.stdout.readline())
        writer.send_signal(signal.SIGKILL)
        rest = (await writer.stdout.read()).split(b"\n")[:-1]
        await writer.wait()
    told = max(told, *(int(line) for line in rest)) if rest else told
    with open(tmp_path / "state.db-wal", "ab") as log:  # noqa: ASYNC230, PTH123 - a torn last write
        log.write(os.urandom(5000))
    store = await StateStore.open(path)
    outstanding = await store.outstanding()
    (held,) = outstanding.held
    assert held.first == 1
    assert held.last >= told
    events = [event for _, event in await store.events_after(0, 1_000_000)]
    assert [event.seq for event in events] == list(range(1, held.last + 1))
    (record,) = await store.runs()
    assert (record.state, record.last_seq) == ("running", held.last)
    next_one = NumberedEvent(RunRef(1, 2), held.last + 1, AgentEvent(EventType.WARNING, {}))
    written = asyncio.Event()
    store.add_event(outstanding.last_position + 2, next_one, written=lambda _: written.set())
    async with asyncio.timeout(30):
        await written.wait()
    await store.close()
