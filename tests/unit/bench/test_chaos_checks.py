"""The checks after chaos find what they are there for, and the faults follow from the seed."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench._chaos_checks import LoggedEvent, LoggedRun, check_run, holders
from bench._chaos_faults import FAULTS, schedule
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


def complaints(run: LoggedRun | None, work: Work | None = None, **faults: int) -> list[str]:
    if work is None:
        seen = [event.sequence for event in run.events] if run else []
        work = Work(0, SECRET, "one two", sequences=seen, closed=True)
    named = {kind.replace("_", " "): count for kind, count in faults.items()}
    return list(check_run(work, run, Counter(named)))


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


def test_a_cancel_nobody_asked_for_and_a_failure_nobody_caused_are_found() -> None:
    cancelled = replace(changed(5, type="lifecycle.cancelled"), state="cancelled")
    assert complaints(cancelled) == ["nobody has cancelled it"]
    failed = replace(
        changed(5, type="lifecycle.failed"), state="failed", error_code="agent_crashed"
    )
    assert "failed without a fault" in complaints(failed)[0]
    assert complaints(failed, kill_agent=1) == []


def test_a_stream_with_a_gap_or_without_an_end_is_found() -> None:
    work = Work(0, SECRET, "one two", sequences=[1, 2, 4, 5, 6])
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
