"""The CLI's own account of what a conversation has cost."""

from __future__ import annotations

from pathlib import Path

import pytest

from executor.agents.claude_code.past_cost import past_cost_usd


def transcript(place: Path, *lines: str) -> None:
    folder = place / "projects" / "-home-repo"
    folder.mkdir(parents=True)
    (folder / "s1.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def account(cost: object) -> str:
    return f'{{"type":"cost-state","sessionId":"s1","totalCostUSD":{cost}}}'


def test_the_last_account_counts(tmp_path: Path) -> None:
    transcript(tmp_path, account(0.1), '{"type":"user"}', account(0.3), '{"type":"last-prompt"}')
    assert past_cost_usd(tmp_path, "s1") == 0.3


def test_it_is_found_at_the_end_of_a_long_conversation(tmp_path: Path) -> None:
    transcript(tmp_path, '{"text":"' + "x" * 2**20 + '"}', account(0.3))
    assert past_cost_usd(tmp_path, "s1") == 0.3


@pytest.mark.parametrize(
    "lines", [[], ['{"type":"user"}'], [account("null")], [account('"x')], [account(-1)]]
)
def test_without_a_usable_account_it_has_cost_nothing(tmp_path: Path, lines: list[str]) -> None:
    transcript(tmp_path, *lines)
    assert past_cost_usd(tmp_path, "s1") == 0.0


def test_an_unknown_conversation_has_cost_nothing(tmp_path: Path) -> None:
    assert past_cost_usd(tmp_path / "none", "s1") == 0.0
