"""The checks after chaos find what they are there for, and the faults follow from the seed."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench._chaos_checks import LoggedEvent, LoggedRun, check_run, explanation, holders
from bench._chaos_faults import FAULTS, Hit, schedule
from bench._chaos_load import Work

SECRET = "sk-chaos-of-this-test"


def event(sequence: int, type_: str, **data: Any) -> LoggedEvent:
    return LoggedEvent(sequence, 1, sequence, type_, data)


WHOLE = [
    event(1, "lifecycle.started"),
    event(2, "llm.start", message_id="m"),
    event(3, "llm.stream", message_id="m", content="one ", offset=0),
    event(4, "llm.stream", message_id="m", content="two", offset=4),
    event(5, "llm.done", message_id="m", content="one two"),
    event(6, "lifecycle.completed", result="one two"),
]
RUN = LoggedRun("r", "completed", None, WHOLE)


def complaints(run: LoggedRun | None, work: Work | None = None, *hits: Hit) -> list[str]:
    if work is None:
        work = seen(run.events if run else [])
    return list(check_run(work, run, hits))


def seen(events: Sequence[LoggedEvent], **fields: Any) -> Work:
    """A run whose caller has seen these events from its tenth to its twentieth second."""
    usual: dict[str, Any] = {"session_id": "s", "closed": True, "began_s": 10.0, "ended_s": 20.0}
    sequences = [event.sequence for event in events]
    return Work(0, SECRET, "one two", sequences=sequences, **usual | fields)


def hit(kind: str, at_s: float, session_id: str | None = None) -> Hit:
    return Hit(kind, at_s, at_s + 1, session_id, Counter())


def changed(at: int, **fields: Any) -> LoggedRun:
    """RUN with the event at this place changed; ``data`` fields are laid over."""
    data = WHOLE[at].data | fields.pop("data", {})
    return replace(
        RUN, events=[*WHOLE[:at], replace(WHOLE[at], data=data, **fields), *WHOLE[at + 1 :]]
    )


def test_a_whole_run_is_whole() -> None:
    assert complaints(RUN) == []


@pytest.mark.parametrize(
    ("run", "found"),
    [
        (None, "not in the manager's database"),
        (replace(RUN, state="running", events=WHOLE[:5]), "it is running"),
        (replace(RUN, events=[*WHOLE, replace(WHOLE[5], sequence=7, seq=7)]), "with the verdicts"),
        (replace(RUN, events=[*WHOLE, event(7, "llm.reasoning")]), "follows its verdict"),
        (replace(RUN, events=WHOLE[1:]), "sequence has gaps"),
        (changed(3, seq=3), "comes after 3"),
        (changed(3, seq=5), "seq 5 to 5"),
        (changed(3, data={"offset": 3}), "a chunk is at 3 instead of 4"),
        (changed(4, data={"content": "one"}), "not its chunks joined"),
        (changed(4, type="llm.reasoning"), "1 messages were left open"),
        (changed(5, data={"result": "one"}), "not what the agent said"),
    ],
)  # fmt: skip
def test_a_damaged_run_is_found(run: LoggedRun | None, found: str) -> None:
    assert any(found in complaint for complaint in complaints(run)), complaints(run)


def test_truncation_excuses_the_text_and_covers_the_numbers() -> None:
    truncated = LoggedEvent(3, 1, 4, "system.truncated", {"covers_from": 3})
    later = [replace(e, sequence=e.sequence - 1) for e in WHOLE[4:]]
    assert complaints(replace(RUN, events=[*WHOLE[:2], truncated, *later])) == []


def test_a_verdict_needs_something_that_was_done_to_this_run_at_that_time() -> None:
    def ended(state: str, code: str | None = None) -> LoggedRun:
        return replace(changed(5, type=f"lifecycle.{state}"), state=state, error_code=code)

    work = seen(WHOLE)
    cancelled, crashed = ended("cancelled"), ended("failed", "agent_crashed")
    assert explanation(work, RUN, []) == "nothing"
    assert explanation(work, cancelled, []) is None
    assert explanation(seen(WHOLE, cancel_asked=True), cancelled, []) == "its cancel"
    for unrelated in (
        hit("kill agent", 15, "another session"),
        hit("kill agent", 22, "s"),
        hit("kill agent", 5, "s"),
        hit("kill executor", 15),
    ):
        assert explanation(work, crashed, [unrelated]) is None
    assert explanation(work, crashed, [hit("kill agent", 15, "s")]) == "the kill of its agent"
    assert explanation(work, ended("failed", "lost"), [hit("freeze", 15)]) is None
    fails = seen(WHOLE, on_node_loss="fail")
    assert explanation(fails, ended("failed", "lost"), [])
    assert explanation(fails, ended("failed", "executor_restarted"), []) is None
    moved, lost = seen(WHOLE, on_node_loss="requeue"), ended("failed", "lost")
    assert explanation(moved, lost, []) is None
    last = replace(lost, events=[*lost.events[:-1], replace(lost.events[-1], attempt=3)])
    assert explanation(moved, last, []) == "executors out of reach in all its attempts"
    unmade = ended("failed", "workspace_error")
    assert explanation(work, unmade, [hit("full disk", 30)]) is None
    assert explanation(work, unmade, [hit("full disk", 9)]) == "a full disk"
    assert "nothing explains that it failed: agent_crashed" in complaints(crashed)[0]


def test_a_later_attempt_is_numbered_anew_and_not_followed_by_an_earlier_one() -> None:
    begun = [*WHOLE[:3], replace(event(4, "llm.error", message_id="m"), seq=None)]
    again = [replace(e, sequence=e.sequence + 4, attempt=2, data=renamed(e)) for e in WHOLE]
    assert complaints(replace(RUN, events=[*begun, *again])) == []
    late = LoggedEvent(10, 1, 4, "llm.reasoning", {})
    overtaken = [*begun, *again[:-1], late, replace(again[-1], sequence=11)]
    assert any("an earlier attempt" in c for c in complaints(replace(RUN, events=overtaken)))


def renamed(of: LoggedEvent) -> dict[str, Any]:
    """The data of an event, said of another message."""
    return of.data | ({"message_id": "n"} if "message_id" in of.data else {})


def test_a_question_must_be_resolved() -> None:
    asked = event(6, "agent.input_required", request_id="q")
    resolved = event(7, "agent.input_resolved", request_id="q")
    end = replace(WHOLE[-1], sequence=7, seq=7)
    assert "1 questions were left open" in complaints(replace(RUN, events=[*WHOLE[:5], asked, end]))
    end = replace(WHOLE[-1], sequence=8, seq=8)
    assert complaints(replace(RUN, events=[*WHOLE[:5], asked, resolved, end])) == []


def test_a_stream_with_a_gap_or_without_an_end_is_found() -> None:
    work = seen([e for e in WHOLE if e.sequence != 3], closed=False)
    assert [c.split(" ")[1] for c in complaints(RUN, work)] == ["stream", "stream"]


def test_secrets_are_found_in_every_file_but_those_meant_for_them(tmp_path: Path) -> None:
    (tmp_path / "api-token").write_text("the-token")
    (tmp_path / "manager.db").write_bytes(b"\0" + SECRET.encode())
    found = list(holders(tmp_path, [SECRET, "the-token"], {"the-token": "api-token"}))
    assert found == ["manager.db holds the secret sk-chaos-of-…"]


def test_the_seed_decides_what_happens_and_when() -> None:
    counts = dict.fromkeys(FAULTS, 5)
    faults = schedule(7, 10, counts)
    assert faults == schedule(7, 10, counts) != schedule(8, 10, counts)
    assert Counter(fault.kind for fault in faults) == counts
    assert [fault.at_s for fault in faults] == sorted(fault.at_s for fault in faults)
    assert random.Random(faults[0].seed).random() != random.Random(faults[1].seed).random()


def test_a_run_stands_where_its_last_telling_event_says() -> None:
    work = Work(0, SECRET, "")
    stages = []
    for sequence, type_ in enumerate(
        ("lifecycle.started", "workspace.prepared", "llm.start", "llm.tool_call", "llm.reasoning",
         "llm.tool_result", "agent.input_required", "llm.done", "lifecycle.failed"), 1,
    ):  # fmt: skip
        stages.append((work.stage, work.under_way))
        work.saw(sequence, type_)
    assert [stage for stage, _ in stages] == [
        "waiting", "beginning", "beginning", "text", "tool", "tool", "text", "question", "question",
    ]  # fmt: skip
    assert [under_way for _, under_way in stages] == [False] + [True] * 8
    assert (work.stage, work.under_way) == ("ended", False)
