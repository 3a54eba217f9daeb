"""Ids are 0 or "0", a number here and a string there: always the same run, echoed as it came."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from executor.delivery.state import StateStore
from shared.protocol.events import RunRef
from shared.protocol.local import LocalEvent
from tests.fakes.backend import FakeBackend, open_backend
from tests.fakes.local_mode import Harness, result
from tests.fakes.run_handler import ScriptedRunHandler

Id = int | str

BOTH_WAYS = pytest.mark.parametrize(
    ("first", "second"), [(0, "0"), ("0", 0), (7, "7"), ("7", 7)], ids=repr
)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[StateStore]:
    store = await StateStore.open(tmp_path / "state.db")
    yield store
    await store.close()


def dispatch(task_id: Id, subtask_id: Id) -> dict[str, Any]:
    return {"task_id": task_id, "subtask_id": subtask_id, "prompt": "go"}


async def heartbeat_names(backend: FakeBackend, subtask_id: Id) -> None:
    """Wait for a heartbeat that names the run with exactly this id."""
    while True:
        runs = (await backend.expect(LocalEvent.HEARTBEAT))["runs"]
        if [run["subtask_id"] for run in runs] == [subtask_id]:
            return


@BOTH_WAYS
async def test_a_repeat_and_a_cancel_find_the_run_however_they_write_its_ids(
    store: StateStore, first: Id, second: Id
) -> None:
    agent = ScriptedRunHandler([asyncio.Event()])
    backend = FakeBackend(heartbeat_interval=0.05, heartbeat_timeout=5)
    async with asyncio.timeout(30), open_backend(backend):
        harness = Harness(store, backend.port, agent)
        async with harness.running():
            await backend.expect(LocalEvent.HEARTBEAT)
            assert await backend.send(LocalEvent.DISPATCH, dispatch(first, first)) == {
                "accepted": True
            }
            await agent.started.get()
            again = await backend.send(LocalEvent.DISPATCH, dispatch(second, second))
            assert again == {"accepted": True, "duplicate": True}
            await heartbeat_names(backend, first)
            cancel = {"task_id": second, "subtask_id": second}
            assert (await backend.send(LocalEvent.CANCEL, cancel))["state"] == "cancelling"
            verdict = await result(backend)
            assert (verdict["task_id"], verdict["subtask_id"]) == (first, first)
            assert type(verdict["subtask_id"]) is type(first)
            assert verdict["status"] == "cancelled"
            assert (await backend.send(LocalEvent.CANCEL, cancel))["state"] == "finished"


@BOTH_WAYS
async def test_a_cancel_of_the_session_and_one_before_its_dispatch_find_it_too(
    store: StateStore, first: Id, second: Id
) -> None:
    agent = ScriptedRunHandler([asyncio.Event()])
    async with asyncio.timeout(30), open_backend() as backend:
        harness = Harness(store, backend.port, agent)
        async with harness.running():
            await backend.expect(LocalEvent.HEARTBEAT)
            early = {"task_id": second, "subtask_id": second}
            assert (await backend.send(LocalEvent.CANCEL, early))["state"] == "unknown"
            await backend.send(LocalEvent.DISPATCH, dispatch(first, first))
            assert (await result(backend))["status"] == "cancelled"
            await backend.send(LocalEvent.DISPATCH, dispatch(first, "other"))
            await agent.started.get()
            session = {"task_id": second}
            assert (await backend.send(LocalEvent.CANCEL, session))["state"] == "cancelling"
            assert (await result(backend))["subtask_id"] == "other"


@BOTH_WAYS
async def test_after_a_restart_they_are_told_as_they_came_and_found_however_they_are_written(
    store: StateStore, first: Id, second: Id
) -> None:
    def standings(register: dict[str, Any]) -> dict[str, Any]:
        runs = [
            {"subtask_id": second, "attempt": run["attempt"], "seq": run["last_seq"]}
            for run in register["runs"]
        ]
        return {"success": True, "features": ["seq_ack", "redispatch"], "acked": runs}

    await store.accept(RunRef(first, first))
    agent = ScriptedRunHandler([asyncio.Event()])
    async with (
        asyncio.timeout(30),
        open_backend(FakeBackend(register_ack=standings)) as backend,
    ):
        harness = await Harness.again(store, backend.port, agent)
        async with harness.running():
            register = await backend.expect(LocalEvent.REGISTER)
            assert [(r["subtask_id"], r["state"]) for r in register["runs"]] == [(first, "queued")]
            await backend.expect(LocalEvent.HEARTBEAT)
            answer = await backend.send(LocalEvent.DISPATCH, dispatch(second, second))
            assert answer == {"accepted": True}
            await agent.started.get()
            await backend.send(LocalEvent.CANCEL, {"task_id": first, "subtask_id": first})
            assert (await result(backend))["status"] == "cancelled"
