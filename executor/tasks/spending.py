"""What a run has used so far, over all its turns and every process that has carried it out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from executor.delivery.run_rows import Spending
from shared.protocol.execution import ExecutionRequest


class Spent:
    """Counts what one run uses."""

    def __init__(self, save: Callable[[Spending], None] = lambda _: None) -> None:
        """*save* keeps what a later process goes on from; called whenever that changes."""
        self.statistics: dict[str, Any] = {}
        """Those of all turns that have ended."""
        self._save = save
        self._saved: Spending | None = None

    def go_on_from(self, before: Spending, cost_usd: float) -> None:
        """Count with what earlier processes have used.

        *cost_usd* is what the conversation has cost by now.
        """
        self._saved = before
        self.statistics = {
            "num_turns": before.turns,
            "total_cost_usd": max(0.0, cost_usd - before.cost_before_usd),
        }

    def note(self, answered: int, cost_usd: float) -> None:
        """Take note of how far the turn in progress is.

        Args:
            answered: How often the model has answered in it.
            cost_usd: What the conversation had cost before it.
        """
        first = cost_usd if self._saved is None else self._saved.cost_before_usd
        now = Spending((self.statistics.get("num_turns") or 0) + answered, first)
        if now != self._saved:
            self._saved = now
            self._save(now)

    def add(self, turn: Mapping[str, Any]) -> None:
        """Count a turn that has ended; numbers add up, of anything else the last stays."""
        self.statistics = _sum(self.statistics, turn)

    def limits_left(self, request: ExecutionRequest) -> dict[str, Any]:
        """``max_turns`` and ``max_budget_usd`` for what is left of *request*, if it has any.

        Zero or less: there is nothing left.
        """
        left: dict[str, Any] = {}
        max_turns = request.max_turns or request.first_bot.max_turns
        if max_turns is not None:
            left["max_turns"] = max_turns - (self.statistics.get("num_turns") or 0)
        if request.max_budget_usd is not None:
            cost_usd = self.statistics.get("total_cost_usd") or 0.0
            left["max_budget_usd"] = request.max_budget_usd - cost_usd
        return left


def _sum(so_far: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    total = dict(so_far)
    for name, value in more.items():
        before = total.get(name)
        if isinstance(value, Mapping):
            total[name] = _sum(before if isinstance(before, Mapping) else {}, value)
        elif _counts(value) and _counts(before):
            total[name] = before + value
        elif value is not None:
            total[name] = value
        else:
            total.setdefault(name, None)
    return total


def _counts(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
