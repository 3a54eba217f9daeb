"""Which tools of MCP servers a rule means, as measured with Claude Code."""

from __future__ import annotations

import pytest

from executor.agents.mcp_names import allows, denies, full_name, read_rules, server_of

RUN = ("mcp__my__files__run", "mcp__my__files")
"""A tool, and its server."""


@pytest.mark.parametrize(
    ("server", "tool", "name"),
    [
        ("files", "read", "mcp__files__read"),
        ("my files.2", "read/all", "mcp__my_files_2__read_all"),
    ],
)
def test_names_are_those_of_claude_code(server: str, tool: str, name: str) -> None:
    assert full_name(server, tool) == name


def test_a_tool_belongs_to_the_known_server_with_the_longest_name() -> None:
    known = ["mcp__my", "mcp__my__files", "mcp__my__fi"]

    assert server_of("mcp__my__files__run", known) == "mcp__my__files"
    assert server_of("mcp__my__other__run", known) == "mcp__my"
    assert server_of("mcp__new__run__it", known) == "mcp__new"


@pytest.mark.parametrize(
    "rule", ["mcp__my__files", "mcp__my__files__run", "mcp__my__files__*", "mcp__my__files__r*n"]
)
def test_a_rule_for_a_server_or_its_tools_allows_and_forbids_them(rule: str) -> None:
    assert allows(rule, *RUN)
    assert denies(rule, *RUN)


@pytest.mark.parametrize(
    "rule", ["mcp__my", "mcp__my__*", "mcp__m*", "mcp__*", "*", "mcp__*__run", "mcp__my__f*s__run"]
)
def test_a_rule_that_may_mean_a_tool_forbids_it_and_does_not_allow_it(rule: str) -> None:
    assert not allows(rule, *RUN)
    assert denies(rule, *RUN)


@pytest.mark.parametrize(
    "rule", ["mcp__my__file", "mcp__my__files__ru", "mcp__my__f*s", "mcp__", "mcp", "Bash", "x*"]
)
def test_another_rule_does_neither(rule: str) -> None:
    assert not allows(rule, *RUN)
    assert not denies(rule, *RUN)


def test_a_longer_tool_is_not_the_one_that_is_forbidden() -> None:
    assert not denies("mcp__x__run", "mcp__x__run__y", "mcp__x")


def test_rules_are_read_without_space_and_without_those_that_bound_arguments() -> None:
    texts = [" mcp__a ", "mcp__b()", "mcp__c(*)", "Bash(git:*)", "mcp__d__e(x)", "", "two words"]

    assert read_rules(texts) == ["mcp__a", "mcp__b", "mcp__c"]
