"""The task that an executor is started with: when it counts as over."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from executor.modes.docker.callbacks import Callbacks
from executor.modes.docker.first_task import FirstTask
from executor.modes.docker.receiver_client import ReceiverClient
from executor.network.access import NetworkAccess
from shared.protocol.events import EventType, RunRef
from shared.protocol.http import CallbackTarget
from shared.redaction import Redactor
from tests.fakes.event_log import open_log, tell
from tests.fakes.receiver import Request, open_receiver

RUN = RunRef(7, 9)


@pytest.mark.parametrize(
    ("verdict", "completed"),
    [(EventType.COMPLETED, True), (EventType.FAILED, False), (EventType.CANCELLED, False)],
)
async def test_it_is_over_when_its_verdict_has_been_told(
    tmp_path: Path, verdict: EventType, completed: bool
) -> None:
    first = FirstTask.read({"task_id": 7, "subtask_id": 9, "prompt": "go"}, None)
    over_before_it_was_told: list[bool] = []

    async def answer(_: Request) -> int:
        for _look in range(3):  # whoever waits for the verdict alone has it by then
            await log.standing("9")
        over_before_it_was_told.append(over.done())
        return 200

    async with open_receiver() as receiver, open_log(tmp_path) as (store, log):
        receiver.answer = answer
        client = ReceiverClient(NetworkAccess({}))
        callbacks = Callbacks(log, store, client, Redactor(), warn=lambda *_: None)
        await log.accept(RUN)
        await callbacks.expect(RUN, CallbackTarget(f"{receiver.url}/callback"))
        over = asyncio.create_task(first.completed(log, callbacks))
        tell(log, RUN, verdict, error="no", result="yes")
        async with asyncio.timeout(30):
            assert await over is completed
        await callbacks.close(0)
        await client.close()

    assert over_before_it_was_told == [False]
