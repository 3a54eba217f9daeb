from __future__ import annotations

from executor.tasks.early_cancels import KEPT_S, EarlyCancels


def test_a_cancel_waits_for_its_run_and_counts_once() -> None:
    cancels = EarlyCancels()
    cancels.remember(0, "why", now=100)
    waiting = cancels.take("0", now=100 + KEPT_S - 1)
    assert waiting is not None
    assert waiting.reason == "why"
    assert cancels.take("0", now=101) is None


def test_a_cancel_is_forgotten_after_its_time_unless_repeated() -> None:
    cancels = EarlyCancels()
    cancels.remember("a", None, now=0)
    cancels.remember("b", None, now=1)
    cancels.remember("a", None, now=2)
    assert cancels.take("b", now=KEPT_S + 1) is None
    assert cancels.take("a", now=KEPT_S + 1) is not None
