"""The loop that watches leases."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

from sqlalchemy.event import listen
from sqlalchemy.exc import OperationalError

from executor_manager.scheduler.leases import expire_forever
from executor_manager.store.store import Store
from executor_manager.streams.hub import Hub
from tests.fakes.store_bench import KEY, Bench


async def test_a_run_whose_node_fell_silent_is_found(tmp_path: Path) -> None:
    hub = Hub()
    url = f"sqlite+aiosqlite:///{tmp_path / 'manager.db'}"
    async with asyncio.timeout(30), Store.open(url, KEY, hub, lease_seconds=0) as store:
        bench = Bench(store, hub, tmp_path)
        run = await bench.running(on_node_loss="fail")
        watch = asyncio.create_task(expire_forever(store.leases, grace_s=0, every_s=0.01))
        with hub.follow(run.run_id) as wake_up:
            while (await bench.run(run.run_id)).state != "failed":
                await wake_up.wait()
        watch.cancel()
        [node] = await store.nodes.all()
        assert node.status == "offline"


class Sleeper:
    """A clock, and a sleep that takes longer than asked as told; it ends after the last one."""

    def __init__(self, *longer: float) -> None:
        self.now = 0.0
        self.asked: list[float] = []
        self.ended = asyncio.Event()
        self._longer = list(longer)

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.asked.append(seconds)
        if not self._longer:
            self.ended.set()
            await asyncio.Event().wait()
        self.now += seconds + self._longer.pop(0)


async def test_executors_get_time_to_be_heard_after_the_machine_has_slept(tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path / 'manager.db'}"
    async with asyncio.timeout(30), Store.open(url, KEY, Hub(), lease_seconds=0) as store:
        bench = Bench(store, Hub(), tmp_path)
        run = await bench.running(on_node_loss="fail")
        for longer, asked, state in (
            ([3600.0, 3600.0], [30, 30, 30], "running"),
            ([0.0, 0.0], [30, 5, 5], "failed"),
        ):
            sleeper = Sleeper(*longer)
            watch = asyncio.create_task(
                expire_forever(
                    store.leases, grace_s=30, every_s=5, clock=sleeper.clock, sleep=sleeper.sleep
                )
            )
            await sleeper.ended.wait()
            watch.cancel()
            assert sleeper.asked == asked
            assert (await bench.run(run.run_id)).state == state


async def test_executors_get_time_to_be_heard_after_the_database_has_failed(
    tmp_path: Path,
) -> None:
    sleeper = Sleeper(0, 0)
    async with asyncio.timeout(30):
        url = f"sqlite+aiosqlite:///{tmp_path / 'manager.db'}"
        async with Store.open(url, KEY, Hub()) as store:

            def refuse(*_: object) -> None:
                raise OperationalError("UPDATE", {}, sqlite3.OperationalError("locked"))

            listen(store.leases._database._engine.sync_engine, "before_cursor_execute", refuse)
            watch = asyncio.create_task(
                expire_forever(
                    store.leases, grace_s=30, every_s=5, clock=sleeper.clock, sleep=sleeper.sleep
                )
            )
            await sleeper.ended.wait()
            watch.cancel()
    assert sleeper.asked == [30, 30, 30]
