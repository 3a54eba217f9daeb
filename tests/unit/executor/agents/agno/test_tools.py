"""Names of tools, as rules list them, and what models read of their results."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, cast

from agno.tools.function import Function, ToolResult
from mcp.types import CallToolResult, TextContent, Tool

from executor.agents.agno.servers import ToolServer
from executor.agents.agno.tools import (
    MAX_NAME_CHARS,
    MAX_RESULT_CHARS,
    ToolGate,
    functions_of,
)
from executor.agents.mcp_names import full_name
from executor.agents.protocol import ToolDecision, ToolPolicy
from shared.protocol.events import Source


class Server:
    """Has tools, whose result is *text*."""

    def __init__(self, name: str, *tools: str, text: str = "") -> None:
        self.name = name
        self.tools = [Tool(name=tool, input_schema={"type": "object"}) for tool in tools]
        self._text = text

    async def call(self, tool: str, arguments: Mapping[str, Any]) -> CallToolResult:
        return CallToolResult(content=[TextContent(text=self._text)])


async def allow(tool: str, arguments: dict[str, Any], **_: object) -> ToolDecision:
    return ToolDecision(allowed=True)


def offered(
    server: Server,
    *disallowed: str,
    allowed: list[str] | None = None,
    policy: ToolPolicy = allow,
) -> list[Function]:
    return functions_of(
        [cast("ToolServer", server)],
        ToolGate(policy),
        Source("1"),
        mode=None,
        home=asyncio.get_running_loop(),
        allowed=[] if allowed is None else [allowed],
        disallowed=disallowed,
    )


async def test_a_name_that_is_too_long_for_the_apis_is_cut_and_its_rules_still_hold() -> None:
    server = Server("s" * 60, "t" * 60)
    full = full_name("s" * 60, "t" * 60)
    used: list[str] = []

    async def note(tool: str, arguments: dict[str, Any], **_: object) -> ToolDecision:
        used.append(tool)
        return ToolDecision(allowed=True)

    [function] = offered(server, policy=note)
    assert function.entrypoint is not None
    await function.entrypoint()

    assert len(function.name) == MAX_NAME_CHARS
    assert set(used) == {full}
    assert not offered(server, full)
    assert not offered(server, function.name)
    assert not offered(server, full_name("s" * 60))
    assert offered(server, allowed=[full])


async def test_tools_whose_names_are_cut_alike_are_all_offered() -> None:
    long = "t" * 60
    server = Server("s", f"{long}-read", f"{long}-write", f"{long}-write", f"{long}.write")
    used: list[str] = []

    async def note(tool: str, arguments: dict[str, Any], **_: object) -> ToolDecision:
        used.append(tool)
        return ToolDecision(allowed=True)

    functions = offered(server, policy=note)
    for function in functions:
        assert function.entrypoint is not None
        await function.entrypoint()

    cut = full_name("s", long)[:MAX_NAME_CHARS]
    assert [function.name for function in functions] == [cut, f"{cut[:-2]}_2", f"{cut[:-2]}_3"]
    assert list(dict.fromkeys(used)) == [
        full_name("s", f"{long}{end}") for end in ("-read", "-write", ".write")
    ]
    assert len(offered(server, full_name("s", f"{long}-write"))) == 2
    assert not offered(server, cut)
    assert [function.name for function in offered(server, f"{cut[:-2]}_2")] == [cut]


async def test_rules_for_a_whole_server_hold_and_those_that_forbid_count_more() -> None:
    server = Server("my__files", "read")

    assert offered(server, allowed=["mcp__my__files"])
    assert offered(server, "mcp__other", allowed=["Read", "mcp__my__files__re*"])
    assert not offered(server, allowed=["mcp__my"])
    assert not offered(server, "mcp__my__files", allowed=["mcp__my__files"])


async def test_of_a_very_long_result_the_model_reads_the_beginning() -> None:
    [function] = offered(Server("a", "b", text="x" * (MAX_RESULT_CHARS + 7)))
    assert function.entrypoint is not None
    result = await function.entrypoint()

    assert isinstance(result, ToolResult)
    assert result.content == f"{'x' * MAX_RESULT_CHARS}\n[7 more characters were left out]"
