"""The power is cut: what was promised is on the disk."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from executor.delivery.state import StateStore
from executor.executor_id import load_executor_id
from shared.protocol.events import TERMINAL_EVENTS, AgentEvent, EventType, NumberedEvent, RunRef
from tests.fakes.outbox import open_outbox
from tests.fakes.power import Machine, machine

RUN = RunRef(0, "0")

WRITER = """
import asyncio, sys
from pathlib import Path
from executor.delivery.state import StateStore
from shared.protocol.events import AgentEvent, NumberedEvent, RunRef

async def main():
    store = await StateStore.open(Path(sys.argv[1]))
    position = 0
    for number in range(1_000_000):
        run = RunRef(1, number)
        await store.accept(run)
        print("accepted", number, flush=True)
        for seq in range(1, 40):
            type_ = "lifecycle.completed" if seq == 39 else "a.b"
            event = NumberedEvent(run, seq, AgentEvent(type_, {"text": "x" * 2000}))
            position += 2
            store.add_event(position, event, written=lambda last, n=number: last == 78 * (n + 1)
                and print("finished", n, flush=True))
        await store.events_after(position, 1)
        if number % 3 == 2:
            store.delete_acknowledged({(str(n), 1): 39 for n in range(number - 2, number)})

asyncio.run(main())
"""


@pytest.fixture
def computer(tmp_path: Path) -> Iterator[Machine]:
    with machine(tmp_path) as computer:
        yield computer


@pytest.fixture
def home(computer: Machine) -> Path:
    home = computer.disk / "home"
    home.mkdir(mode=0o700)
    return home


def event(seq: int, type_: str = EventType.REASONING) -> NumberedEvent:
    return NumberedEvent(RUN, seq, AgentEvent(type_, {"content": "x"}))


async def test_an_executor_keeps_the_id_that_it_has_told(computer: Machine) -> None:
    home = computer.disk / "new" / "home"
    executor_id = await asyncio.to_thread(load_executor_id, home)
    await computer.cut_power()
    await computer.start_again()
    assert await asyncio.to_thread(load_executor_id, home) == executor_id


async def test_a_new_executors_first_acceptance_is_there(computer: Machine, home: Path) -> None:
    async with open_outbox(home) as (store, _):
        await store.accept(RUN)
        await computer.cut_power()
    await computer.start_again()
    async with open_outbox(home) as (store, _):
        assert [(record.run, record.state) for record in await store.runs()] == [(RUN, "queued")]


async def test_a_verdict_is_there_with_all_that_was_told_before_it(
    computer: Machine, home: Path
) -> None:
    async with open_outbox(home) as (store, outbox):
        await store.accept(RUN)
        for seq in (1, 2, 3):
            outbox.put(event(seq))
            await store.events_after(0, 1)  # a commit of its own
        outbox.put(event(4, EventType.COMPLETED))
        await store.events_after(0, 1)
        await computer.cut_power()
    await computer.start_again()
    async with open_outbox(home) as (store, outbox):
        (record,) = await store.runs()
        assert (record.state, record.last_seq, outbox.depth) == ("finished", 4, 4)
        assert [e.seq for _, e in await store.events_after(0, 10)] == [1, 2, 3, 4]


async def test_what_nobody_promised_is_lost_without_harm(computer: Machine, home: Path) -> None:
    """Also the proof that this disk does forget."""
    for attempt in range(5):
        unpromised = home / f"unpromised-{attempt}"
        async with open_outbox(home) as (store, outbox):
            store.forget_run(RUN.key)
            await store.accept(RUN)
            outbox.put(event(1))
            await store.events_after(0, 1)
            await asyncio.to_thread(unpromised.write_text, "x")
            await computer.cut_power()
        await computer.start_again()
        if not await asyncio.to_thread(unpromised.exists):
            break  # otherwise somebody had everything of this machine written through just then
    else:
        raise AssertionError("this disk forgets nothing")
    async with open_outbox(home) as (store, outbox):
        (record,) = await store.runs()
        assert (record.state, record.last_seq, outbox.depth) == ("queued", 0, 0)
        outbox.put(event(1))
        await store.events_after(0, 1)
        assert (await store.runs())[0].last_seq == 1


@asynccontextmanager
async def writing(path: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process that writes runs and events to this file, and tells what it was promised."""
    writer = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WRITER, str(path), cwd=Path(__file__).parents[2],
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        yield writer
    finally:
        writer.kill()
        await writer.wait()


@pytest.mark.parametrize("promises", [1, 7, 30, 61])
async def test_a_cut_in_the_middle_of_much_writing_breaks_no_promise(
    computer: Machine, home: Path, promises: int
) -> None:
    told: list[tuple[str, int]] = []
    async with writing(home / "state.db") as writer, asyncio.timeout(60):
        assert writer.stdout is not None
        while len(told) < promises:
            what, number = (await writer.stdout.readline()).split()
            told.append((what.decode(), int(number)))
        writer.send_signal(signal.SIGSTOP)  # a copy takes some time
        await computer.cut_power()
    await computer.start_again()
    store = await StateStore.open(home / "state.db")
    states: dict[int, str] = {int(r.run.subtask_id): r.state for r in await store.runs()}
    assert {number for _, number in told} <= set(states)
    assert {states[number] for what, number in told if what == "finished"} <= {"finished"}
    seqs: dict[str, list[int]] = {}
    ends: set[str] = set()
    for _, one in await store.events_after(0, 1_000_000):
        seqs.setdefault(str(one.run.subtask_id), []).append(one.seq)
        if one.event.type in TERMINAL_EVENTS:
            ends.add(str(one.run.subtask_id))
    for name, numbers in seqs.items():
        assert numbers == list(range(1, len(numbers) + 1))
        assert (states[int(name)] == "finished") == (name in ends) == (len(numbers) == 39)
    await store.close()
    assert not await asyncio.to_thread((home / "state.db.damaged").exists)
