"""An executor as a service of systemd: what it says of itself, and when its watchdog is fed."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from executor.delivery.state import StateStore
from executor.service.notify import ServiceManager
from shared.protocol.local import LocalEvent
from tests.fakes.backend import TOKEN, FakeBackend, open_backend
from tests.fakes.local_mode import Harness
from tests.fakes.processes import ExecutorProcess, executor_process
from tests.fakes.service_manager import WATCHDOG, ServiceManagerEnd, listening
from tests.fakes.wire import open_wire

FAST = {"LOCAL_RECONNECT_DELAY": "0.01", "LOCAL_RECONNECT_MAX_DELAY": "0.01"}
BEAT_S = 0.05


def service_variables(end: ServiceManagerEnd) -> dict[str, str]:
    return {"NOTIFY_SOCKET": end.address, "WATCHDOG_USEC": "300000000", **FAST}


@asynccontextmanager
async def watched(place: Path) -> AsyncIterator[tuple[ServiceManagerEnd, ServiceManager]]:
    """A service manager, and what an executor in this process tells it with."""
    async with listening(place) as end:
        observer = ServiceManager(
            end.address,
            watchdog_us=300_000_000,
            backend="http://backend",
            heartbeat_timeout_s=90,
            longest_pause_s=30,
            stop_within_s=45,
        )
        try:
            yield end, observer
        finally:
            observer.close()


async def stopped(executor: ExecutorProcess) -> None:
    executor.program.signal(signal.SIGTERM)
    assert await executor.program.ended() == 0


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[StateStore]:
    store = await StateStore.open(tmp_path / "state.db")
    yield store
    await store.close()


def unused_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


async def test_a_backend_that_is_down_at_boot_is_no_failed_start(tmp_path: Path) -> None:
    backend = FakeBackend()
    backend.port = unused_port()
    async with (
        asyncio.timeout(50),
        listening(tmp_path) as end,
        executor_process(
            tmp_path / "home", backend.url, TOKEN, **service_variables(end)
        ) as executor,
    ):
        await end.hears("READY=1")
        await end.hears("STATUS=not connected: ")
        await end.hears(WATCHDOG, times=3)  # it tries, which is a sign of life
        async with open_backend(backend):
            await end.hears(f"STATUS=connected to {backend.url}")
            await stopped(executor)
    assert end.heard[0] == ["READY=1", f"STATUS=connecting to {backend.url}"]
    assert end.lines.count("READY=1") == 1
    assert "STOPPING=1" in end.lines


async def test_answered_heartbeats_feed_the_watchdog(tmp_path: Path) -> None:
    async with (
        asyncio.timeout(50),
        listening(tmp_path) as end,
        open_backend(FakeBackend(heartbeat_interval=BEAT_S, heartbeat_timeout=30)) as backend,
        executor_process(
            tmp_path / "home", backend.url, TOKEN, **service_variables(end)
        ) as executor,
    ):
        await end.hears(WATCHDOG, times=10)
        await stopped(executor)
    assert "not connected" not in "".join(end.lines)


async def test_what_the_watchdog_kills_tells_the_journal_where_it_was(tmp_path: Path) -> None:
    async with (
        asyncio.timeout(50),
        listening(tmp_path) as end,
        open_backend() as backend,
        executor_process(
            tmp_path / "home", backend.url, TOKEN, **service_variables(end)
        ) as executor,
    ):
        await end.hears(WATCHDOG)
        resource.prlimit(executor.program.process.pid, resource.RLIMIT_CORE, (0, 0))
        executor.program.signal(signal.SIGABRT)
        assert await executor.program.ended() == -signal.SIGABRT
    assert "Fatal Python error: Aborted" in executor.program.output
    assert "most recent call first" in executor.program.output


async def test_a_home_that_is_taken_is_never_said_to_be_ready(tmp_path: Path) -> None:
    async with (
        asyncio.timeout(50),
        listening(tmp_path) as end,
        open_backend() as backend,
        executor_process(tmp_path / "home", backend.url, TOKEN) as first,
    ):
        await first.registered()
        async with executor_process(
            tmp_path / "home", backend.url, TOKEN, **service_variables(end)
        ) as second:
            assert await second.program.ended() == 2
        await stopped(first)
    assert end.heard == []


async def test_a_backend_that_answers_no_heartbeat_feeds_it_by_hearing_them(
    store: StateStore, tmp_path: Path
) -> None:
    """A base backend: that its connection lives, the transport's own ping says."""
    async with (
        asyncio.timeout(50),
        watched(tmp_path) as (end, observer),
        open_backend(FakeBackend.silent()) as backend,
    ):
        harness = Harness(store, backend.port, register_timeout_s=0.01, observer=observer)
        async with harness.running():
            await backend.expect(LocalEvent.HEARTBEAT)
            await end.hears(WATCHDOG, times=2)  # the registration, and the beat


async def test_heartbeats_that_nobody_answers_do_not_feed_it(
    store: StateStore, tmp_path: Path
) -> None:
    deaf = FakeBackend(heartbeat_interval=BEAT_S, heartbeat_timeout=30)
    async with (
        asyncio.timeout(50),
        watched(tmp_path) as (end, observer),
        open_backend(deaf) as backend,
    ):
        harness = Harness(store, backend.port, observer=observer)
        async with harness.running():
            await end.hears(WATCHDOG, times=3)
            deaf.acknowledges = False
            await backend.send(LocalEvent.CANCEL, {})  # what was on its way before has arrived
            fed = end.count(WATCHDOG)
            deaf.received = asyncio.Queue()
            for _ in range(5):
                await backend.expect(LocalEvent.HEARTBEAT)
            await backend.send(LocalEvent.CANCEL, {})
            assert end.count(WATCHDOG) == fed
            deaf.acknowledges = True
            await end.hears(WATCHDOG, times=fed + 1)


async def test_a_frozen_network_does_not_feed_it_and_a_failed_attempt_does(
    store: StateStore, tmp_path: Path
) -> None:
    backend_kind = FakeBackend(heartbeat_interval=BEAT_S, heartbeat_timeout=3)
    async with (
        asyncio.timeout(30),
        watched(tmp_path) as (end, observer),
        open_backend(backend_kind) as backend,
        open_wire(backend.port) as wire,
    ):
        harness = Harness(store, wire.port, observer=observer)
        async with harness.running():
            await end.hears(WATCHDOG, times=3)
            await wire.refuse()
            wire.freeze()
            await end.hears("STATUS=not connected: no heartbeat was answered")
            lost_at = end.heard.index(
                next(message for message in end.heard if "no heartbeat" in message[0])
            )
            await end.hears("STATUS=not connected: ", times=3)  # two attempts were refused
            wire.thaw()
            await wire.listen()
    said = end.heard[lost_at : lost_at + 3]
    assert [WATCHDOG in message for message in said] == [False, True, True]


async def test_nothing_feeds_it_while_the_event_loop_is_blocked(
    store: StateStore, tmp_path: Path
) -> None:
    lively = FakeBackend(heartbeat_interval=0.001, heartbeat_timeout=30)
    async with (
        asyncio.timeout(50),
        watched(tmp_path) as (end, observer),
        open_backend(lively) as backend,
    ):
        harness = Harness(store, backend.port, observer=observer)
        async with harness.running():
            await end.hears(WATCHDOG, times=3)
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
                # From here on it is this socket that hears what is said.
                await asyncio.to_thread(os.unlink, end.address)
                systemd.bind(end.address)
                systemd.setblocking(False)
                time.sleep(0.5)  # noqa: ASYNC251  the blocked loop is what this is about
                with pytest.raises(BlockingIOError):  # there is nothing to read
                    systemd.recv(100)
