"""Runs and sessions as they are made, and their secrets."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from cryptography.fernet import Fernet
from sqlalchemy import create_engine
from sqlalchemy.exc import OperationalError

from executor_manager.store.runs import SessionConflict
from executor_manager.store.schema import upgrade
from executor_manager.store.store import Store
from executor_manager.store.tables import metadata
from executor_manager.streams.hub import Hub
from shared.errors import ConfigError
from tests.fakes.store_bench import Bench, event, secrets_of


async def test_a_run_without_a_session_gets_a_new_one(bench: Bench) -> None:
    first, second = await bench.queued(), await bench.queued()
    assert first.session_id != second.session_id
    session = await bench.store.sessions.get(first.session_id)
    assert session is not None
    assert (session.user_id, session.node_id) == ("u", None)


async def test_a_session_of_another_user_is_refused(bench: Bench) -> None:
    await bench.queued(session_id="mine")
    with pytest.raises(SessionConflict):
        await bench.queued(session_id="mine", user_id="other")


async def test_a_repeated_call_with_the_same_key_makes_one_run(bench: Bench) -> None:
    runs = await asyncio.gather(*(bench.queued(idempotency_key="k") for _ in range(5)))
    assert len({run.id for run in runs}) == 1
    assert (await bench.queued(idempotency_key="k", user_id="other")).id != runs[0].id


async def test_secrets_are_never_in_the_clear_in_the_files(bench: Bench) -> None:
    run = await bench.running(secrets={"/git_token": "TOP-SECRET-TOKEN"})
    assert await secrets_of(bench.store, run.run_id) == {"/git_token": "TOP-SECRET-TOKEN"}

    def stored() -> bytes:
        return b"".join(file.read_bytes() for file in bench.path.parent.glob("manager.db*"))

    assert b"lifecycle.started" in await asyncio.to_thread(stored)
    assert b"TOP-SECRET" not in await asyncio.to_thread(stored)


@pytest.mark.parametrize("verdict", ["lifecycle.completed", "lifecycle.failed"])
async def test_secrets_are_gone_with_the_verdict(bench: Bench, verdict: str) -> None:
    run = await bench.running(secrets={"/git_token": "T"})
    await bench.tell(run, event(2, verdict))
    assert await secrets_of(bench.store, run.run_id) == {}


async def test_another_key_is_reported_and_not_taken_for_no_secrets(tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path / 'manager.db'}"
    async with Store.open(url, Fernet.generate_key(), Hub()) as store:
        run = await store.runs.create(user_id="u", request={}, secrets={"/git_token": "T"})
    async with Store.open(url, Fernet.generate_key(), Hub()) as store:
        with pytest.raises(ConfigError):
            await secrets_of(store, run.id)


async def test_live_runs_are_counted_by_state(bench: Bench) -> None:
    run = await bench.running()
    await bench.queued()
    await bench.queued()
    assert await bench.store.runs.counts() == {"running": 1, "queued": 2}
    await bench.tell(run, event(2, "lifecycle.completed"))
    assert await bench.store.runs.counts() == {"queued": 2}


def test_the_migrations_make_exactly_the_tables(tmp_path: Path) -> None:
    path = tmp_path / "manager.db"
    upgrade(f"sqlite+aiosqlite:///{path}")
    upgrade(f"sqlite+aiosqlite:///{path}")  # again: nothing to do
    engine = create_engine(f"sqlite:///{path}")
    with engine.connect() as connection:
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, metadata) == []
    engine.dispose()


def test_a_migration_that_fails_half_way_leaves_nothing_behind(tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path / 'manager.db'}"
    with closing(sqlite3.connect(tmp_path / "manager.db")) as connection:
        connection.execute("CREATE TABLE secrets (in_the_way)")  # it is made last
        with pytest.raises(OperationalError):
            upgrade(url)
        connection.execute("DROP TABLE secrets")
    upgrade(url)
