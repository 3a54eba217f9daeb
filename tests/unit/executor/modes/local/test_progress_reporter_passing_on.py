"""What another executor has told is passed on without loss or repeat, whenever this one dies."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from executor.delivery.outbox import Outbox
from executor.delivery.run_rows import RunRecord
from executor.modes.local.progress_reporter import ProgressReporter
from shared.protocol.events import AgentEvent, EventType, NumberedEvent, RunKey, RunRef, Source
from shared.protocol.execution import ExecutionRequest
from shared.redaction import Redactor
from tests.fakes.outbox import open_outbox

SECRET = "sk-a-key-of-the-run"
REQUEST = ExecutionRequest.model_validate(
    {
        "task_id": 7,
        "subtask_id": 9,
        "prompt": "hi",
        "task_title": "T",
        "bot": {"agent_config": {"env": {"api_key": SECRET}}},
    }
)
RUN = REQUEST.run


class Mortal:
    """An outbox that is connected when a test says so, and takes no event after its last."""

    def __init__(self, outbox: Outbox, connected: Callable[[], bool], lives: int) -> None:
        self._outbox = outbox
        self._connected = connected
        self._lives = lives
        self.on_connected: Callable[[], None] = lambda: None

    @property
    def connected(self) -> bool:
        return self._connected()

    @property
    def dead(self) -> bool:
        return self._lives < 0

    def put(self, event: NumberedEvent) -> None:
        self._lives -= 1
        if not self.dead:
            self._outbox.put(event)

    def know(self, run: RunRef, last_seq: int) -> None:
        self._outbox.know(run, last_seq)

    def last_seq(self, key: RunKey) -> int:
        return self._outbox.last_seq(key)

    def waits_for(self, key: RunKey) -> bool:
        return self._outbox.waits_for(key)

    def drop(self, key: RunKey) -> None:
        self._outbox.drop(key)

    def repeat_verdict(self, run: RunRef, seq: int) -> None:
        self._outbox.repeat_verdict(run, seq)


def told_elsewhere(rng: random.Random) -> list[AgentEvent]:
    """A run of two agents that talk at the same time, as another executor's log has it."""
    events: list[tuple[str, dict[str, object], Source | None]] = [(EventType.STARTED, {}, None)]
    said = {"a": "", "b": ""}
    events += [(EventType.LLM_START, {"message_id": name}, Source(name)) for name in said]
    for _ in range(rng.randrange(5, 40)):
        name = rng.choice(["a", "a", "a", "b"])
        if rng.random() < 0.2:
            events.append((EventType.REASONING, {"content": "hm"}, Source(name)))
        piece = "".join(rng.choice("sk-xyz") for _ in range(rng.randrange(1, 9)))
        data = {"message_id": name, "content": piece, "offset": len(said[name])}
        events.append((EventType.LLM_STREAM, data, Source(name)))
        said[name] += piece
    for name, text in said.items():
        data = {"message_id": name, "content": text}
        events.append((EventType.LLM_DONE, data, Source(name)))
    events.append((EventType.COMPLETED, {"result": "done"}, None))
    return [
        AgentEvent(type_, data, source, origin=number)
        for number, (type_, data, source) in enumerate(events, start=1)
    ]


def spelled_out(events: Sequence[AgentEvent]) -> Iterator[tuple[object, ...]]:
    """What was told, character by character where it is text."""
    for event in events:
        if event.type == EventType.LLM_STREAM:
            for at, character in enumerate(event.data["content"], start=event.data["offset"]):
                yield (event.type, event.source, event.data["message_id"], at, character)
        else:
            yield (event.type, event.source, dict(event.data))


@pytest.mark.parametrize("seed", range(12))
async def test_a_run_that_is_passed_on_loses_and_repeats_nothing_when_it_is_killed_anywhere(
    tmp_path: Path, seed: int
) -> None:
    rng = random.Random(seed)
    elsewhere = told_elsewhere(rng)
    record: RunRecord | None = None
    for life in range(5):
        async with open_outbox(tmp_path) as (store, outbox):
            last = life == 4
            lives = 10_000 if last else rng.randrange(0, 12)
            mortal = Mortal(outbox, lambda: rng.random() < 0.3, lives)
            reporter = ProgressReporter(mortal, Redactor())
            if record is None:
                await store.accept(RUN)
                reporter.open(REQUEST)
            else:
                reporter.reopen(record)
            for event in elsewhere[(record.origin or 0) if record is not None else 0 :]:
                if record is not None and rng.random() < 0.1:
                    reporter.reattach(REQUEST)
                reporter.report(RUN, event)
                if mortal.dead:
                    break
        async with open_outbox(tmp_path) as (store, _):
            (record,) = await store.runs()
            kept = [event for _, event in await store.events_after(0, 10_000)]
        if record.state == "finished":
            break
    assert [event.seq for event in kept] == list(range(1, len(kept) + 1))
    assert list(spelled_out([event.event for event in kept])) == list(spelled_out(elsewhere))


async def test_text_that_is_passed_on_is_neither_masked_again_nor_held_back(tmp_path: Path) -> None:
    async with open_outbox(tmp_path) as (store, outbox):
        reporter = ProgressReporter(Mortal(outbox, lambda: True, 100), Redactor())
        reporter.open(REQUEST)
        beginning = {"message_id": "m", "content": SECRET[:6], "offset": 0}
        reporter.report(RUN, AgentEvent(EventType.LLM_STREAM, beginning, origin=3))
        (kept,) = [event for _, event in await store.events_after(0, 100)]
    assert kept.event.data == beginning


async def test_neighbouring_text_is_joined_while_nobody_is_connected(tmp_path: Path) -> None:
    async with open_outbox(tmp_path) as (store, outbox):
        await store.accept(RUN)
        reporter = ProgressReporter(outbox, Redactor())
        reporter.open(REQUEST)
        for number, piece in enumerate(["ab", "cd", "ef"]):
            data = {"message_id": "m", "content": piece, "offset": 100 + 2 * number}
            reporter.report(RUN, AgentEvent(EventType.LLM_STREAM, data, origin=number + 5))
        reporter.report(RUN, AgentEvent(EventType.WARNING, {"message": "w"}))
        chunk, _ = [event.event for _, event in await store.events_after(0, 100)]
        (record,) = await store.runs()
    assert chunk.data == {"message_id": "m", "content": "abcdef", "offset": 100}
    assert record.origin == 7


async def test_a_placeholder_of_the_other_log_gets_a_number_of_this_one(tmp_path: Path) -> None:
    async with open_outbox(tmp_path) as (store, outbox):
        reporter = ProgressReporter(outbox, Redactor())
        reporter.open(REQUEST)
        reporter.report(RUN, AgentEvent(EventType.STARTED, {}, origin=1))
        gap = AgentEvent(EventType.TRUNCATED, {"covers_from": 2}, origin=90)
        reporter.report(RUN, gap)
        reporter.report(RUN, AgentEvent(EventType.TRUNCATED, {"covers_from": 91}, origin=95))
        kept = [event for _, event in await store.events_after(0, 100)]
    assert [(event.seq, event.event.data) for event in kept[1:]] == [
        (2, {"covers_from": 2}),
        (3, {"covers_from": 3}),
    ]


async def test_a_run_that_went_on_elsewhere_keeps_its_messages_and_questions_open(
    tmp_path: Path,
) -> None:
    async with open_outbox(tmp_path) as (store, outbox):
        reporter = ProgressReporter(outbox, Redactor())
        reporter.reopen(RunRecord(RUN, "running", 7, 40, "sid", {"m": None}, ["q"], origin=12))
        reporter.reattach(REQUEST)
        reporter.report(RUN, AgentEvent(EventType.WARNING, {"message": "w"}, origin=13))
        ended = {"error": "gone", "error_code": "container_failed"}
        reporter.report(RUN, AgentEvent(EventType.FAILED, ended))
        kept = [event for _, event in await store.events_after(0, 100)]
    assert [(event.seq, event.event.type) for event in kept] == [
        (8, EventType.WARNING),
        (9, EventType.INPUT_RESOLVED),
        (10, EventType.LLM_ERROR),
        (11, EventType.FAILED),
    ]
    assert (kept[0].progress, kept[0].task_title) == (40, "T")
