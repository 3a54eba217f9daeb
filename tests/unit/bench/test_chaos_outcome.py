"""The summary of chaos says what was missed and what nothing explains."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from bench._chaos_checks import LoggedEvent, LoggedRun
from bench._chaos_faults import FAULTS, Hit
from bench._chaos_load import Work
from bench._chaos_outcome import FAULT_NAMES, Outcome

RUN = LoggedRun("r", "completed", None, [LoggedEvent(1, 1, 1, "lifecycle.completed", {})])


def test_every_fault_has_a_name_in_the_summary() -> None:
    assert FAULT_NAMES.keys() == FAULTS.keys()


def test_the_summary_has_hits_misses_verdicts_and_violations() -> None:
    hits = [
        Hit("cut", 1, 2, None, Counter(["text", "text"])),
        Hit("cut", 2, 3, None, Counter(["text", "text", "text", "tool"])),
    ]
    outcome = Outcome(7, {"cut": 2, "kill agent": 1, "slow": 0}, hits=hits, stops_s=[2.0])
    outcome.count(Work(0, "key", "text", began_s=1.0, ended_s=3.0), RUN)
    outcome.count(Work(1, "key", "text"), replace(RUN, state="failed", error_code="internal"))
    outcome.violations.append("something is wrong")
    assert list(outcome.text())[2:] == [
        "| TCP connection cut | 2 | 2.5, 0.5, 0.0 |",
        "| agent killed | 0 of 1 |  |",
        "",
        "| verdict | runs | what led to it |",
        "|---|---|---|",
        "| completed | 1 |  |",
        "| internal | 1 | NOTHING EXPLAINS IT |",
        "| **violations of what must hold** | **1** | |",
        "",
        "2 runs with 2 events in 0 s.",
        "A run took 2.0 s (p95 2.0, longest 2.0).",
        "An executor told to stop ended after 2.0 s (p95 2.0, longest 2.0).",
        "- something is wrong",
    ]
