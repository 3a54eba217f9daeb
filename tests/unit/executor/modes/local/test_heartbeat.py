"""Heartbeats on a clock that the test moves."""

from __future__ import annotations

import inspect
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from executor.modes.local.heartbeat import HeartbeatService, Rhythm, time_with_sleep
from shared.errors import LinkLost
from shared.protocol.events import RunKey, RunRef
from shared.protocol.local import Heartbeat, LocalEvent, read


class Load:
    """A supervisor's numbers."""

    def __init__(self) -> None:
        self.draining = False
        self.free_slots = 2
        self.runs: list[RunRef] = []
        self.unheard: list[RunRef] = []
        self.superseded: list[RunKey] = []

    def unfinished(self) -> list[RunRef]:
        return self.runs

    def unheard_verdicts(self) -> list[RunRef]:
        return self.unheard

    def running_task_ids(self) -> list[int | str]:
        return [run.task_id for run in self.runs[:1]]

    def supersede(self, key: RunKey) -> None:
        self.superseded.append(key)


class Line:
    """A connection and a clock; *answer* makes the ack to the beat at a time, ``...`` for none."""

    def __init__(self, answer: Callable[[float], object], ends_at: float = 1000.0) -> None:
        self.now = 0.0
        self.beats: list[tuple[float, dict[str, Any]]] = []
        self.asked_for_acks = False
        self.between: Callable[[], None] = lambda: None
        """Called between two beats."""
        self._answer = answer
        self._ends_at = ends_at

    async def emit(
        self, event: str, payload: dict[str, Any], *, on_ack: Callable[[object], None] | None = None
    ) -> None:
        assert event == LocalEvent.HEARTBEAT
        self.beats.append((self.now, payload))
        self.asked_for_acks |= on_ack is not None
        answer = self._answer(self.now)
        if on_ack is not None and answer is not ...:
            on_ack(answer)

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.between()
        if self.now >= self._ends_at:
            raise LinkLost("the test ends here")


async def beat(line: Line, load: Load, rhythm: Rhythm) -> str:
    service = HeartbeatService(
        "e-1", load, load.unheard_verdicts, clock=lambda: line.now, sleep=line.sleep
    )
    with pytest.raises(LinkLost) as caught:
        await service.run(line, rhythm)
    return str(caught.value)


async def test_beats_come_at_once_and_at_every_interval() -> None:
    line = Line(lambda _: {"success": True}, ends_at=45)
    assert await beat(line, Load(), Rhythm(10, 30)) == "the test ends here"
    assert [at for at, _ in line.beats] == [0, 10, 20, 30, 40]


async def test_a_connection_that_answers_nothing_is_given_up_at_the_timeout() -> None:
    line = Line(lambda _: ...)
    error = await beat(line, Load(), Rhythm(10, 25))
    assert line.now == 25
    assert "no heartbeat was answered within 25 s (last answer: never" in error


async def test_the_error_says_when_it_last_worked() -> None:
    line = Line(lambda now: {"success": True} if now < 100 else ...)
    error = await beat(line, Load(), Rhythm(10, 30))
    assert line.now == 120
    assert "(last answer: 30 s ago, connected for 120 s)" in error


@pytest.mark.parametrize("answer", [None, "ok", {"success": False}, {"success": "maybe"}])
async def test_an_answer_that_is_no_success_does_not_count(answer: object) -> None:
    line = Line(lambda _: answer)
    assert "no heartbeat was answered" in await beat(line, Load(), Rhythm(10, 30))


async def test_a_single_lost_answer_does_no_harm() -> None:
    line = Line(lambda now: ... if now % 20 else {"success": True}, ends_at=200)
    assert await beat(line, Load(), Rhythm(10, 30)) == "the test ends here"


async def test_a_base_backend_is_not_asked_to_answer() -> None:
    line = Line(lambda _: ..., ends_at=500)
    assert await beat(line, Load(), Rhythm(30, None)) == "the test ends here"
    assert not line.asked_for_acks
    assert len(line.beats) == 17


async def test_runs_that_the_backend_calls_superseded_are_stopped() -> None:
    load = Load()
    answer = {"success": True, "superseded": [{"subtask_id": 5, "attempt": 2}]}
    await beat(Line(lambda _: answer, ends_at=5), load, Rhythm(10, 30))
    assert load.superseded == [("5", 2)]


@pytest.mark.parametrize(
    ("runs", "draining", "status"),
    [(0, False, "alive"), (2, False, "busy"), (2, True, "draining"), (0, True, "draining")],
)
async def test_a_beat_tells_status_runs_and_room(runs: int, draining: bool, status: str) -> None:
    load = Load()
    load.draining = draining
    load.runs = [RunRef(0, "a", 2), RunRef("t", 7)][:runs]
    line = Line(lambda _: {"success": True}, ends_at=5)
    await beat(line, load, Rhythm(10, 30))
    told = read(Heartbeat, line.beats[0][1])
    assert (told.executor_id, told.status, told.free_slots) == ("e-1", status, 2)
    assert [(r.subtask_id, r.attempt) for r in told.runs] == [("a", 2), (7, 1)][:runs]
    assert told.running_task_ids == [0][:runs]


async def test_a_run_is_told_of_until_its_verdict_is_heard() -> None:
    load = Load()
    load.runs, load.unheard = [RunRef(0, "a", 2)], [RunRef("t", 7)]
    line = Line(lambda _: {"success": True}, ends_at=15)
    line.between = load.unheard.clear
    await beat(line, load, Rhythm(10, 30))
    told = [read(Heartbeat, payload).runs for _, payload in line.beats]
    assert [[(r.subtask_id, r.attempt) for r in runs] for runs in told] == [
        [("a", 2), (7, 1)],
        [("a", 2)],
    ]


async def test_waking_up_on_a_connection_from_before_the_machine_slept_gives_it_up_at_once() -> (
    None
):
    line = Line(lambda now: {"success": True} if now < 20 else ..., ends_at=99_999)
    sleeps: list[float] = []

    async def sleep(seconds: float) -> None:
        sleeps.append(seconds)
        line.now += seconds if len(sleeps) != 2 else 8 * 3600  # the lid was closed

    service = HeartbeatService("e-1", Load(), list, clock=lambda: line.now, sleep=sleep)
    with pytest.raises(LinkLost, match="last answer: 28800 s ago"):
        await service.run(line, Rhythm(10, 30))
    assert len(sleeps) == 2


@pytest.mark.skipif(sys.platform != "linux", reason="the clock has this name on Linux only")
def test_the_clock_goes_on_while_the_machine_sleeps() -> None:
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    assert before <= time_with_sleep() <= time.clock_gettime(time.CLOCK_BOOTTIME)
    assert inspect.signature(HeartbeatService).parameters["clock"].default is time_with_sleep
