from __future__ import annotations

from pathlib import Path

from executor.modes.local.progress_reporter import ProgressReporter
from shared.protocol.events import AgentEvent, EventType
from shared.protocol.execution import ExecutionRequest
from shared.redaction import Redactor
from tests.fakes.outbox import open_outbox

REQUEST = ExecutionRequest.model_validate({"task_id": 7, "subtask_id": 9, "prompt": "hi"})


async def test_what_a_parked_run_said_in_an_outage_is_there_after_the_next_start(
    tmp_path: Path,
) -> None:
    async with open_outbox(tmp_path) as (store, outbox):
        await store.accept(REQUEST.run)
        reporter = ProgressReporter(outbox, Redactor())
        reporter.open(REQUEST)
        said = ["one, ", "two, ", "three"]
        begin = {"message_id": "m", "model": None}
        reporter.report(REQUEST.run, AgentEvent(EventType.LLM_START, begin))
        for number, text in enumerate(said):
            data = {"message_id": "m", "content": text, "offset": len("".join(said[:number]))}
            reporter.report(REQUEST.run, AgentEvent(EventType.LLM_STREAM, data))
        reporter.park(REQUEST.run.key)
        last_seq = reporter.last_seq(REQUEST.run.key)
    async with open_outbox(tmp_path) as (store, _):
        kept = [event for _, event in await store.events_after(0, 100)]
        (record,) = await store.runs()
    chunks = [event.event for event in kept if event.event.type == EventType.LLM_STREAM]
    assert "".join(chunk.data["content"] for chunk in chunks) == "one, two, three"
    assert record.last_seq == last_seq == kept[-1].seq
    assert list(record.open_messages) == ["m"]


async def test_parking_a_run_that_is_not_known_does_nothing(tmp_path: Path) -> None:
    async with open_outbox(tmp_path) as (_, outbox):
        ProgressReporter(outbox, Redactor()).park(REQUEST.run.key)
        assert outbox.depth == 0
