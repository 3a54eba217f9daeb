"""The loop that watches leases, while one clock goes for it, the database and an executor."""

from __future__ import annotations

import asyncio
import math
import sqlite3
from typing import Any, Literal

import pytest
from sqlalchemy.event import listen
from sqlalchemy.exc import OperationalError

from executor_manager.scheduler.leases import expire_forever
from executor_manager.store.records import Committed, NodeStatus
from tests.fakes.store_bench import Bench, event

INTERVAL = 10
GRACE = 40
EVERY = 5
"""Seconds, as the embedded pair has them; a lease lasts 30."""


class World:
    """A manager's store and the watch of its leases; node ``n`` beats and lists its runs."""

    def __init__(self, bench: Bench) -> None:
        self.now = 1_800_000_000.0
        self.bench = bench
        self.last_beat = self.now
        self.next_beat = self.now
        self.dies = math.inf
        """The node does not beat any more from then on."""
        self.runs: list[tuple[str, int]] = []
        self.oversleeps = 0.0
        """By how many seconds every sleep of the watch is too long."""
        self.slept: list[float] = []
        self._ends = 0.0
        self._ended = asyncio.Event()
        engine = bench.store.leases._database._engine.sync_engine
        listen(engine, "connect", self._set_clock)

    async def pass_time(self, seconds: float) -> None:
        """Watch the leases from the start of a manager, for so long."""
        self._ends, self._ended = self.now + seconds, asyncio.Event()
        watch = asyncio.create_task(
            expire_forever(
                self.bench.store.leases,
                grace_s=GRACE,
                every_s=EVERY,
                clock=lambda: self.now,
                sleep=self._sleep,
            )
        )
        await self._ended.wait()
        watch.cancel()

    def suspend(self, seconds: float) -> None:
        """The manager does not run; the node gives its connection up, and is back after a while."""
        self.now += seconds
        self.next_beat = self.now + 31

    async def status(self) -> NodeStatus:
        [node] = await self.bench.store.nodes.all()
        return node.status

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        wakes = self.now + seconds + self.oversleeps
        while self.next_beat <= wakes and self.next_beat < self.dies:
            self.now = self.last_beat = max(self.now, self.next_beat)
            self.next_beat = self.now + INTERVAL
            superseded = await self.bench.store.nodes.heartbeat(
                "n", self.runs, draining=False, free_slots=0
            )
            assert superseded == []
        self.now = max(self.now, wakes)  # it may have been suspended meanwhile
        if self.now >= self._ends:
            self._ended.set()
            await asyncio.Event().wait()

    def _set_clock(self, connection: Any, _entry: object) -> None:
        # What the database takes its time from, in days since an older beginning.
        connection.create_function("julianday", 1, lambda _: self.now / 86400 + 2440587.5)


@pytest.fixture
def world(bench: Bench) -> World:
    return World(bench)


@pytest.mark.parametrize("on_node_loss", ["wait", "fail", "requeue"])
async def test_a_run_that_its_node_lists_is_never_lost_however_long_its_verdict_takes(
    world: World, on_node_loss: str
) -> None:
    run = await world.bench.running(on_node_loss=on_node_loss)
    world.runs = [(run.run_id, 1)]
    world.oversleeps = 4.9  # as on a machine whose cores are all taken
    await world.pass_time(600)
    listed = await world.bench.run(run.run_id)
    assert (listed.state, listed.attempt, listed.unreachable) == ("running", 1, False)
    assert await world.bench.tell(run, event(2, "lifecycle.completed")) == Committed(2)


@pytest.mark.parametrize("oversleeps", [0, 4.9])
@pytest.mark.parametrize("first_beat", [0.1, 2.6, 4.9])
async def test_a_dead_executor_is_noticed_within_45_seconds(
    world: World, oversleeps: float, first_beat: float
) -> None:
    run = await world.bench.running(on_node_loss="fail")
    world.runs = [(run.run_id, 1)]
    world.oversleeps = oversleeps
    world.next_beat = world.now + first_beat
    world.dies = world.now + 60
    await world.pass_time(120)
    ended = await world.bench.run(run.run_id)
    assert ended.error_code == "lost"
    assert await world.status() == "offline"
    assert ended.finished_at is not None
    assert 30 <= ended.finished_at - world.last_beat <= 45


When = Literal["asleep", "before the look", "in the look"]


@pytest.mark.parametrize("when", ["asleep", "before the look", "in the look"])
async def test_a_manager_that_was_suspended_takes_nobody_for_dead(world: World, when: When) -> None:
    run = await world.bench.running(on_node_loss="fail")
    world.runs = [(run.run_id, 1)]
    began, suspended = world.now, False
    begins_with = {"asleep": "UPDATE", "before the look": "SELECT ((julian", "in the look": "BEGIN"}

    def suspend(_c: object, _cursor: object, statement: str, *_: object) -> None:
        nonlocal suspended
        # "asleep": after the heartbeat, in the same sleep.
        due = world.now > began + 60 and statement.startswith(begins_with[when])
        if due and not suspended:
            suspended = True
            world.suspend(60)

    engine = world.bench.store.leases._database._engine.sync_engine
    listen(engine, "before_cursor_execute", suspend)
    await world.pass_time(300)
    assert suspended
    assert (await world.bench.run(run.run_id)).state == "running"
    assert await world.status() == "online"


async def test_executors_get_time_to_be_heard_after_the_database_has_failed(world: World) -> None:
    def refuse(*_: object) -> None:
        raise OperationalError("UPDATE", {}, sqlite3.OperationalError("locked"))

    world.dies = world.now
    engine = world.bench.store.leases._database._engine.sync_engine
    listen(engine, "before_cursor_execute", refuse)
    await world.pass_time(2 * GRACE + 1)
    assert world.slept == [GRACE, GRACE, GRACE]
