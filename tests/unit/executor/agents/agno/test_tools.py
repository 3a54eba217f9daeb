"""Names of tools, as rules list them, and what models read of their results."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, cast

import pytest
from agno.tools.function import Function, ToolResult
from mcp.types import CallToolResult, TextContent, Tool

from executor.agents.agno.servers import ToolServer
from executor.agents.agno.tools import (
    MAX_NAME_CHARS,
    MAX_RESULT_CHARS,
    ToolGate,
    full_name,
    functions_of,
    listed,
)
from executor.agents.protocol import ToolDecision
from shared.protocol.events import Source


class Server:
    """Has one tool, whose result is *text*."""

    def __init__(self, name: str, tool: str, text: str = "") -> None:
        self.name = name
        self.tools = [Tool(name=tool, input_schema={"type": "object"})]
        self._text = text

    async def call(self, tool: str, arguments: Mapping[str, Any]) -> CallToolResult:
        return CallToolResult(content=[TextContent(text=self._text)])


async def allow(tool: str, arguments: dict[str, Any], *, asked: bool = False) -> ToolDecision:
    return ToolDecision(allowed=True)


def offered(server: Server, *disallowed: str, allowed: list[str] | None = None) -> list[Function]:
    return functions_of(
        [cast("ToolServer", server)],
        ToolGate(allow),
        Source("1"),
        home=asyncio.get_running_loop(),
        allowed=[] if allowed is None else [allowed],
        disallowed=disallowed,
    )


@pytest.mark.parametrize(
    ("server", "tool", "name"),
    [
        ("files", "read", "mcp__files__read"),
        ("my files.2", "read/all", "mcp__my_files_2__read_all"),
    ],
)
def test_names_are_those_of_claude_code(server: str, tool: str, name: str) -> None:
    assert full_name(server, tool) == name


async def test_a_name_that_is_too_long_for_the_apis_is_cut_and_its_rules_still_hold() -> None:
    server = Server("s" * 60, "t" * 60)
    [function] = offered(server)

    assert len(function.name) == MAX_NAME_CHARS
    assert not offered(server, full_name("s" * 60, "t" * 60))
    assert not offered(server, full_name("s" * 60))
    assert offered(server, allowed=[full_name("s" * 60, "t" * 60)])
    assert offered(server, allowed=[function.name])


async def test_a_server_may_have_separators_in_its_name_and_its_rules_hold() -> None:
    assert not offered(Server("my__files", "read"), "mcp__my__files")
    assert offered(Server("my__files", "read"), "mcp__my")


async def test_of_a_very_long_result_the_model_reads_the_beginning() -> None:
    [function] = offered(Server("a", "b", "x" * (MAX_RESULT_CHARS + 7)))
    assert function.entrypoint is not None
    result = await function.entrypoint()

    assert isinstance(result, ToolResult)
    assert result.content == f"{'x' * MAX_RESULT_CHARS}\n[7 more characters were left out]"


@pytest.mark.parametrize("rule", ["mcp__a__b", "mcp__a", "mcp__a__*", " mcp__a__b "])
def test_rules_name_a_tool_or_its_server(rule: str) -> None:
    assert listed("mcp__a__b", "a", [rule])


@pytest.mark.parametrize("rule", ["mcp__ab", "mcp__a__c", "Bash", "mcp__a__b(x)", ""])
def test_other_rules_do_not(rule: str) -> None:
    assert not listed("mcp__a__b", "a", [rule])
