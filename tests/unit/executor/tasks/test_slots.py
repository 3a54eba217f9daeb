from __future__ import annotations

from typing import Literal

import pytest

from executor.tasks.known_runs import AcceptedRun, KnownRuns
from executor.tasks.slots import Slots
from shared.errors import Refusal
from shared.protocol.events import RunRef
from shared.protocol.execution import ExecutionRequest


class Place:
    """Slots, and the runs that were accepted for them."""

    def __init__(self, *, limit: int = 1, queue_limit: int = 10) -> None:
        self.known = KnownRuns()
        self.slots = Slots(self.known, limit=limit, queue_limit=queue_limit)

    def left(self, session: int, name: str, how: Literal["queued", "interrupted"]) -> AcceptedRun:
        """Know a run of an earlier process."""
        entry = AcceptedRun(RunRef(session, name), left=how)
        self.known.add(entry)
        return entry

    def accept(self, session: int, name: str) -> AcceptedRun:
        """Know a run, and let it wait."""
        entry = AcceptedRun(RunRef(session, name))
        self.known.add(entry)
        self.take_up(entry)
        return entry

    def take_up(self, entry: AcceptedRun) -> None:
        entry.left = None
        ids = {"task_id": entry.ref.task_id, "subtask_id": entry.ref.subtask_id}
        request = ExecutionRequest.model_validate({**ids, "prompt": "go"})
        self.slots.wait_for(entry, request)

    def next(self) -> str | None:
        """Who gets a slot."""
        taken = self.slots.take()
        if taken is None:
            return None
        entry, request = taken
        assert request.run.key == entry.key
        return str(entry.ref.subtask_id)


def test_the_first_to_come_is_the_first_to_start() -> None:
    place = Place(limit=2)
    first = place.accept(1, "a")
    place.accept(2, "b")
    place.accept(3, "c")
    assert [place.next() for _ in range(3)] == ["a", "b", None]
    assert place.slots.free == 0
    first.finished = True
    place.slots.leave(first)
    assert place.next() == "c"


def test_a_session_has_one_run_at_a_time_and_others_pass_it() -> None:
    place = Place(limit=3)
    first = place.accept(1, "a")
    place.accept(1, "b")
    place.accept(2, "c")
    assert [place.next() for _ in range(3)] == ["a", "c", None]
    first.finished = True
    place.slots.leave(first)
    assert place.next() == "b"


def test_a_run_waits_for_the_one_before_it_that_an_earlier_process_left() -> None:
    place = Place(limit=3)
    cut = place.left(1, "cut", "interrupted")
    place.accept(1, "later")
    place.accept(2, "other")
    assert [place.next() for _ in range(2)] == ["other", None]
    place.take_up(cut)
    assert [place.next() for _ in range(2)] == ["cut", None]
    cut.finished = True
    place.slots.leave(cut)
    assert place.next() == "later"


def test_runs_of_a_session_keep_their_order_however_they_are_dispatched_again() -> None:
    place = Place(limit=3)
    first, second = place.left(1, "first", "interrupted"), place.left(1, "second", "queued")
    place.take_up(second)
    assert place.next() is None
    place.take_up(first)
    assert [place.next() for _ in range(2)] == ["first", None]


def test_a_session_with_a_run_left_has_to_wait_and_so_needs_a_place_in_the_queue() -> None:
    place = Place(limit=3, queue_limit=0)
    place.left(1, "cut", "interrupted")
    place.slots.check("2")
    with pytest.raises(Refusal):
        place.slots.check("1")


async def test_idle_is_when_nobody_runs_and_nobody_waits() -> None:
    place = Place()
    place.left(9, "left", "queued")
    await place.slots.wait_idle()  # that one is for a later dispatch
    entry = place.accept(1, "a")
    assert place.next() == "a"
    place.slots.leave(entry)
    await place.slots.wait_idle()
    assert (place.slots.running, place.slots.waiting) == ([], [])
