"""SIGKILL between any two steps of a run's delivery: one verdict, no gap, nothing lost or repeated.

A process of its own takes a run from its acceptance to its delivered verdict and kills itself at
the step that the test names; what its backend has by then it has printed. The next process goes on.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from executor.modes.local.progress_reporter import ProgressReporter
from shared.errors import LinkLost
from shared.protocol.events import AgentEvent, EventType, NumberedEvent, RunRef
from shared.protocol.execution import ExecutionRequest
from shared.protocol.local import RunAck, RunStanding
from shared.redaction import Redactor
from tests.fakes.outbox import open_outbox

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")

RUN = RunRef(0, "0")
REQUEST = ExecutionRequest(task_id=0, subtask_id="0", prompt="p")

STEPS = {
    "accepting": "none",
    "accepted": "queued",
    "begun": "running",
    "message open": "running",
    "question open": "running",
    "some sent": "running",
    "sent, not acknowledged": "running",
    "acknowledged, not deleted": "running",
    "verdict told, not written": "any",
    "verdict written": "finished",
    "verdict sent, not acknowledged": "finished",
    "verdict acknowledged, not deleted": "finished",
    "all done": "finished",
}
"""After which step the process dies, and how the run then stands on the disk."""

PROCESS = """
import asyncio, os, signal, sys
from pathlib import Path
from tests.integration.test_killed_between_steps import REQUEST, RUN, first_life

def at(step):
    if step == sys.argv[2]:
        os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(first_life(Path(sys.argv[1]), at))
"""


@dataclass
class Backend:
    """Commits what follows what it has; *answers* can be switched off."""

    committed: list[tuple[int, str, dict[str, Any]]] = field(default_factory=list)
    answers: bool = True
    tells: bool = False
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def last(self) -> int:
        return self.committed[-1][0] if self.committed else 0

    async def send_event(self, event: NumberedEvent) -> asyncio.Future[RunAck | None]:
        if event.seq == self.last + 1:
            self.committed.append((event.seq, event.event.type, dict(event.event.data)))
            if self.tells:
                print(json.dumps(self.committed[-1]), flush=True)  # noqa: T201 - to the test
            self.arrived.set()
        answer: asyncio.Future[RunAck | None] = asyncio.get_running_loop().create_future()
        if self.answers:
            answer.set_result(RunAck(success=True, acked=self.last))
        return answer


async def first_life(home: Path, at: Any) -> None:
    """Take the run as far as *at* allows."""
    backend = Backend(tells=True)
    async with open_outbox(home) as (store, outbox):
        reporter = ProgressReporter(outbox, Redactor([]), merge_for_s=0)

        def tell(type_: str, **data: Any) -> None:
            reporter.report(RUN, AgentEvent(type_, data))

        async def written() -> None:
            await store.events_after(0, 1)

        async def sent(count: int) -> None:
            while backend.last < count:
                backend.arrived.clear()
                await backend.arrived.wait()

        accepting = store.accept(RUN)
        at("accepting")
        await accepting
        at("accepted")
        reporter.open(REQUEST)
        tell(EventType.STARTED)
        await written()
        at("begun")
        tell(EventType.LLM_START, message_id="m")
        tell(EventType.LLM_STREAM, message_id="m", content="Hal", offset=0)
        await written()
        at("message open")
        tell(
            EventType.INPUT_REQUIRED, request_id="q", kind="question", tool_name="A", tool_input={}
        )
        await written()
        at("question open")
        pump = asyncio.create_task(outbox.pump(backend, acks=True))
        await outbox.wait_empty()
        at("some sent")
        backend.answers = False
        tell(EventType.WARNING, message="one more")
        await sent(5)
        at("sent, not acknowledged")
        outbox.register_standing([RunStanding(subtask_id="0", seq=5)])
        at("acknowledged, not deleted")
        tell(EventType.COMPLETED, result="done")
        at("verdict told, not written")
        await written()
        at("verdict written")
        await sent(8)
        at("verdict sent, not acknowledged")
        outbox.register_standing([RunStanding(subtask_id="0", seq=8)])
        at("verdict acknowledged, not deleted")
        pump.cancel()
        await asyncio.wait({pump})
    at("all done")


async def second_life(home: Path, backend: Backend, expected: str) -> None:
    """Go on as a dispatch that is repeated would have it."""
    async with open_outbox(home) as (store, outbox):
        reporter = ProgressReporter(outbox, Redactor([]), merge_for_s=0)
        records = await store.runs()
        states: list[str] = [record.state for record in records] or ["none"]
        assert expected in (*states, "any")
        reports = [RunStanding(subtask_id="0", seq=backend.last)]
        if not records:
            await store.accept(RUN)
            reporter.open(REQUEST)
        elif states != ["finished"]:
            reporter.reopen(records[0])
            outbox.register_standing(reports)
            reporter.resume(REQUEST)
        else:
            outbox.register_standing(reports)
        reporter.report(RUN, AgentEvent(EventType.COMPLETED, {"result": "done"}))
        pump = asyncio.create_task(outbox.pump(backend, acks=True))
        async with asyncio.timeout(30):
            await outbox.wait_empty()
        pump.cancel()
        with suppress(asyncio.CancelledError, LinkLost):
            await pump


@pytest.mark.parametrize("step", STEPS)
async def test_a_run_whose_process_is_killed_at_any_step_ends_whole(
    tmp_path: Path, step: str
) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROCESS, str(tmp_path), step, cwd=Path(__file__).parents[2],
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(30):
        output, _ = await process.communicate()
    assert process.returncode == -signal.SIGKILL
    backend = Backend([tuple(json.loads(line)) for line in output.splitlines()])
    await second_life(tmp_path, backend, STEPS[step])
    told = [(seq, type_) for seq, type_, _ in backend.committed]
    assert [seq for seq, _ in told] == list(range(1, len(told) + 1))
    types = [type_ for _, type_ in told]
    assert types.count(EventType.COMPLETED) == 1
    assert types[-1] == EventType.COMPLETED
    assert types.count(EventType.LLM_START) == types.count(EventType.LLM_ERROR)
    assert types.count(EventType.INPUT_REQUIRED) == types.count(EventType.INPUT_RESOLVED)
    async with open_outbox(tmp_path) as (store, outbox):
        (record,) = await store.runs()
        assert (record.state, record.last_seq, outbox.depth) == ("finished", len(told), 0)
        assert (dict(record.open_messages), list(record.open_questions)) == ({}, [])
