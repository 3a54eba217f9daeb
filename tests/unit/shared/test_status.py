"""Run states: what may follow what, and that a verdict never changes."""

from __future__ import annotations

import pytest

from shared.status import TERMINAL, TRANSITIONS, RunState, can_become


def test_every_state_has_its_transitions() -> None:
    assert set(TRANSITIONS) == set(RunState)


@pytest.mark.parametrize("verdict", sorted(TERMINAL))
@pytest.mark.parametrize("new", list(RunState))
def test_a_verdict_never_changes(verdict: RunState, new: RunState) -> None:
    assert not can_become(verdict, new)


@pytest.mark.parametrize("live", [state for state in RunState if not state.terminal])
@pytest.mark.parametrize("verdict", sorted(TERMINAL))
def test_any_live_state_may_end(live: RunState, verdict: RunState) -> None:
    assert can_become(live, verdict)


@pytest.mark.parametrize(
    ("current", "new", "allowed"),
    [
        ("queued", "claimed", True),
        ("claimed", "running", True),
        ("running", "cancelling", True),
        ("claimed", "queued", True),
        ("running", "queued", True),
        ("queued", "running", False),
        ("running", "claimed", False),
        ("cancelling", "running", False),
        ("cancelling", "queued", False),
        ("running", "running", False),
    ],
)
def test_live_states_follow_the_drawn_paths(current: str, new: str, allowed: bool) -> None:
    assert can_become(RunState(current), RunState(new)) is allowed
