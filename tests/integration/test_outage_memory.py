"""What is told during an outage goes to the disk; the memory does not grow with it."""

from __future__ import annotations

import gc
import tracemalloc
from pathlib import Path

from executor.modes.local.progress_reporter import ProgressReporter
from shared.protocol.events import AgentEvent, EventType, RunRef
from shared.protocol.execution import ExecutionRequest
from shared.redaction import Redactor
from tests.fakes.outbox import open_outbox

RUN = RunRef(1, 2)
DELTA = "some forty characters of an agent's text"


async def test_memory_stays_flat_however_much_is_told_while_nobody_listens(tmp_path: Path) -> None:
    async with open_outbox(tmp_path) as (store, outbox):
        reporter = ProgressReporter(outbox, Redactor([]))
        reporter.open(ExecutionRequest(task_id=1, subtask_id=2, prompt="p"))
        reporter.report(RUN, AgentEvent(EventType.LLM_START, {"message_id": "m", "model": "x"}))
        told = 0

        async def tell(deltas: int) -> int:
            """Bytes in use after so many more deltas, and a tool's result for each hundred."""
            nonlocal told
            for _ in range(deltas):
                data = {"message_id": "m", "content": DELTA, "offset": told * len(DELTA)}
                reporter.report(RUN, AgentEvent(EventType.LLM_STREAM, data))
                told += 1
                if told % 100 == 0:
                    result = {"tool_id": str(told), "tool_name": "Bash", "result": DELTA * 20}
                    reporter.report(RUN, AgentEvent(EventType.TOOL_RESULT, result))
                    await store.events_after(0, 1)  # it is written down
            gc.collect()
            return tracemalloc.get_traced_memory()[0]

        tracemalloc.start()
        try:
            warm = await tell(7_000)
            grown = await tell(15_000) - warm
        finally:
            tracemalloc.stop()
        assert outbox.depth > 300
        assert grown < 100_000  # of 600 kB of text and 120 kB of results
