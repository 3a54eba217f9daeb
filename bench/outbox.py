"""The outbox: events per second through the disk, what the disk costs, and memory in an outage.

An outage of 10 minutes at 1,000 text deltas per second is put through the reporter as fast as it
takes them: the number of deltas is the real one, the time is not.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import deque
from dataclasses import replace
from pathlib import Path

if not __package__:  # started as a file: the repository's root belongs on the path, not this folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import psutil

from bench._measure import Report, arguments
from bench._programs import temporary_folder
from executor.modes.local.progress_reporter import ProgressReporter
from shared.protocol.events import AgentEvent, EventType, NumberedEvent, RunRef
from shared.protocol.execution import ExecutionRequest
from shared.protocol.local import RunAck
from shared.redaction import Redactor
from tests.fakes.outbox import open_outbox

EVENTS = 30_000
AIM_PER_SECOND = 5_000
OUTAGE_DELTAS = 600_000
DELTA = " some twenty letters"
BURST = 20
"""Events put between two looks at the loop: a tool's output, or some milliseconds of text."""

RUN_LENGTH = 100
"""Events of a short run."""

PROBES = 300
RUN = RunRef(1, 2)


class Backend:
    """Acknowledges at once, in the next step of the loop, and remembers when each event came."""

    def __init__(self) -> None:
        self.arrived: dict[int, float] = {}

    async def send_event(self, event: NumberedEvent) -> asyncio.Future[RunAck | None]:
        loop = asyncio.get_running_loop()
        self.arrived[event.seq] = time.perf_counter()
        answer: asyncio.Future[RunAck | None] = loop.create_future()
        loop.call_soon(answer.set_result, RunAck(success=True, acked=event.seq))
        return answer


class MemoryOutbox:
    """The least that an outbox could do: a queue, without a promise."""

    def __init__(self) -> None:
        self._events: deque[NumberedEvent] = deque()
        self._in_flight: dict[int, NumberedEvent] = {}
        self._changed = asyncio.Event()
        self.empty = asyncio.Event()

    def put(self, event: NumberedEvent) -> None:
        """Take *event*."""
        self._events.append(event)
        self.empty.clear()
        self._changed.set()

    async def pump(self, backend: Backend) -> None:
        """Send what there is."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            while self._events and len(self._in_flight) < 256:
                event = self._events.popleft()
                self._in_flight[event.seq] = event
                (await backend.send_event(event)).add_done_callback(self._acknowledged)

    def _acknowledged(self, answer: asyncio.Future[RunAck | None]) -> None:
        ack = answer.result()
        if ack is not None and ack.acked is not None:
            del self._in_flight[ack.acked]
        self._changed.set()
        if not self._events and not self._in_flight:
            self.empty.set()


def event(seq: int) -> NumberedEvent:
    """One chunk of text."""
    data = {"message_id": "m", "content": DELTA, "offset": seq * len(DELTA)}
    return NumberedEvent(RUN, seq, AgentEvent(EventType.LLM_STREAM, data))


async def memory_path() -> float:
    """Events per second through a queue in memory."""
    outbox, backend = MemoryOutbox(), Backend()
    pump = asyncio.create_task(outbox.pump(backend))
    began = time.perf_counter()
    for seq in range(1, EVENTS + 1):
        outbox.put(event(seq))
        if seq % BURST == 0:
            await asyncio.sleep(0)
    await outbox.empty.wait()
    pump.cancel()
    return EVENTS / (time.perf_counter() - began)


async def durable_path(home: Path) -> tuple[float, list[float]]:
    """Events per second through the disk, and milliseconds from put to sent when there is time."""
    backend = Backend()
    async with open_outbox(home) as (store, outbox):
        await store.accept(RUN)
        pump = asyncio.create_task(outbox.pump(backend, acks=True))
        began = time.perf_counter()
        for seq in range(1, EVENTS + 1):
            outbox.put(event(seq))
            if seq % BURST == 0:
                await asyncio.sleep(0)
        await outbox.wait_empty()
        per_second = EVENTS / (time.perf_counter() - began)
        waits = []
        for seq in range(EVENTS + 1, EVENTS + 1 + PROBES):
            await asyncio.sleep(0.005)
            put_at = time.perf_counter()
            outbox.put(event(seq))
            await outbox.wait_empty()
            waits.append((backend.arrived[seq] - put_at) * 1000)
        pump.cancel()
    return per_second, waits


async def durable_runs(home: Path) -> float:
    """Events per second of short runs one after the other, each with an acceptance and a verdict.

    Both are written through to the disk (fsync) before anything else happens with them.
    """
    async with open_outbox(home) as (store, outbox):
        pump = asyncio.create_task(outbox.pump(Backend(), acks=True))
        began = time.perf_counter()
        for number in range(EVENTS // RUN_LENGTH):
            run = RunRef(1, number)
            await store.accept(run)
            for seq in range(1, RUN_LENGTH):
                outbox.put(replace(event(seq), run=run))
            verdict = AgentEvent(EventType.COMPLETED, {"result": DELTA})
            outbox.put(NumberedEvent(run, RUN_LENGTH, verdict))
        await outbox.wait_empty()
        per_second = EVENTS / (time.perf_counter() - began)
        pump.cancel()
    return per_second


async def outage(home: Path, *, merged: bool) -> tuple[list[float], float, int]:
    """Memory in MiB during an outage, MiB on the disk after it, and the events it became."""
    samples = []
    async with open_outbox(home) as (store, outbox):
        reporter = ProgressReporter(outbox, Redactor())
        reporter.open(ExecutionRequest(task_id=1, subtask_id=2, prompt="go"))
        reporter.report(RUN, AgentEvent(EventType.LLM_START, {"message_id": "m", "model": None}))
        this = psutil.Process()
        for number in range(OUTAGE_DELTAS):
            if merged:
                data = {"message_id": "m", "content": DELTA, "offset": number * len(DELTA)}
                reporter.report(RUN, AgentEvent(EventType.LLM_STREAM, data))
            else:
                outbox.put(event(number + 10))
            if number % 1000 == 0:
                await store.events_after(1 << 60, 1)  # at 1,000 per second the disk keeps up
            if number % 6000 == 0:
                samples.append(this.memory_info().rss / 2**20)
        depth = outbox.depth
    return samples, (home / "state.db").stat().st_size / 2**20, depth


def main() -> None:
    """Measure and print."""
    options = arguments("The durable outbox", rounds=2)
    report = Report("outbox: events through the disk")
    memory, durable, short_runs, ratios, waits = [], [], [], [], []
    for _ in range(options.rounds):
        with temporary_folder() as place:
            memory.append(asyncio.run(memory_path()))
            per_second, latencies = asyncio.run(durable_path(place))
        with temporary_folder() as place:
            short_runs.append(asyncio.run(durable_runs(place)))
        durable.append(per_second)
        ratios.append(per_second / memory[-1])
        waits += latencies
    report.add("a queue in memory", memory, "events/s")
    report.add("through the disk", durable, "events/s")
    report.add(f"through the disk, in runs of {RUN_LENGTH}", short_runs, "events/s")
    report.add("share of the queue's", ratios, "x")
    report.add("put to sent, one at a time", waits)
    met = "met" if min(durable) >= AIM_PER_SECOND else "MISSED"
    report.note(f"aim: at least {AIM_PER_SECOND} events/s through the disk: {met}")
    for name, merged in (("merged by the reporter", True), ("each an event", False)):
        with temporary_folder() as place:
            samples, size, depth = asyncio.run(outage(place, merged=merged))
        settled = samples[len(samples) // 10 :]
        report.add(f"memory in an outage, {name}", settled, "MiB")
        report.note(
            f"{OUTAGE_DELTAS} deltas, {name}: {depth} events, {size:.0f} MiB on the disk, memory "
            f"from {settled[0]:.1f} to {settled[-1]:.1f} MiB"
        )
    report.show(as_json=options.json)


if __name__ == "__main__":
    main()
