"""Names of tools, as rules list them."""

from __future__ import annotations

import pytest

from executor.agents.agno.tools import MAX_NAME_CHARS, listed, tool_name


@pytest.mark.parametrize(
    ("server", "tool", "name"),
    [
        ("files", "read", "mcp__files__read"),
        ("my files.2", "read/all", "mcp__my_files_2__read_all"),
    ],
)
def test_names_are_those_of_claude_code(server: str, tool: str, name: str) -> None:
    assert tool_name(server, tool) == name


def test_no_name_is_longer_than_the_apis_allow() -> None:
    assert len(tool_name("s" * 60, "t" * 60)) == MAX_NAME_CHARS


@pytest.mark.parametrize("rule", ["mcp__a__b", "mcp__a", "mcp__a__*", " mcp__a__b "])
def test_rules_name_a_tool_or_its_server(rule: str) -> None:
    assert listed("mcp__a__b", [rule])


@pytest.mark.parametrize("rule", ["mcp__ab", "mcp__a__c", "Bash", "mcp__a__b(x)", ""])
def test_other_rules_do_not(rule: str) -> None:
    assert not listed("mcp__a__b", [rule])
