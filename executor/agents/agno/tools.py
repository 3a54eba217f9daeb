"""The tools of members: those of their MCP servers, each use put to the policy and to the user."""

from __future__ import annotations

import asyncio
import base64
import itertools
from collections.abc import Awaitable, Callable, Container, Iterable, Sequence
from functools import partial
from typing import Any, Final

from agno.media import Image
from agno.tools.function import Function, ToolResult
from mcp.types import CallToolResult, ImageContent, TextContent, Tool

from executor.agents.agno.servers import ToolServer
from executor.agents.mcp_names import allows, denies, full_name, read_rules
from executor.agents.protocol import Ask, ToolPolicy
from shared.logging import get_logger
from shared.protocol.events import Source

logger = get_logger("agno_agent")

MAX_NAME_CHARS: Final = 64
"""Of a tool, as models know it; source: both model APIs."""

MAX_RESULT_CHARS: Final = 100_000
"""Of one use of a tool; as much as Claude Code hands on (25,000 tokens)."""


class ToolDenied(Exception):
    """A use of a tool that is not allowed; the model reads the message."""


class ToolFailed(Exception):
    """A tool has told that it failed; the model reads the message."""


class ToolGate:
    """Decides about every use of a tool, as Claude Code's runs do."""

    def __init__(self, policy: ToolPolicy) -> None:
        self._policy = policy
        self.ask: Ask | None = None
        """Set during a turn; ``None``: the policy decides alone."""

    async def admit(
        self, tool: str, arguments: dict[str, Any], *, source: Source, mode: str | None
    ) -> dict[str, Any]:
        """The arguments that *tool* may be used with.

        Args:
            source: Who uses it.
            mode: Their own permission mode; ``None``: the run's.

        Raises:
            ToolDenied: It may not.
        """
        decision = await self._policy(tool, arguments)
        if decision.allowed:
            # Claude Code asks for every tool of a server, too.
            decision = await self._policy(tool, arguments, asked=True, mode=mode)
            if decision.question is not None and self.ask is not None:
                answer = await self.ask(decision.question, tool, arguments, source)
                decision = answer if answer is not None else decision
        if not decision.allowed:
            logger.info("tool use denied", tool=tool)
            raise ToolDenied(decision.message or f"{tool} may not be used in this run")
        return arguments if decision.updated_input is None else decision.updated_input


def functions_of(
    servers: Iterable[ToolServer],
    gate: ToolGate,
    source: Source,
    *,
    mode: str | None,
    home: asyncio.AbstractEventLoop,
    allowed: Sequence[Sequence[str]],
    disallowed: Sequence[str],
) -> list[Function]:
    """The tools of *servers* that a member is offered; what is not listed it never sees.

    Args:
        source: Who uses them.
        mode: Their own permission mode; ``None``: the run's.
        home: The event loop that servers and user are reached from; agno has one of its own.
        allowed: Lists of rules that name tools and servers; each must have it.
        disallowed: Rules that count more than *allowed*.
    """
    functions: dict[str, Function] = {}
    admit = partial(gate.admit, source=source, mode=mode)
    lists, forbidden = [*map(read_rules, allowed)], read_rules(disallowed)
    for server in servers:
        owner = full_name(server.name)
        for tool in {tool.name: tool for tool in server.tools}.values():
            full = full_name(server.name, tool.name)
            if any(denies(rule, full, owner) for rule in forbidden):
                continue
            if not all(any(allows(rule, full, owner) for rule in rules) for rules in lists):
                continue
            name = _free_name(full, functions)
            if not {name, full[:MAX_NAME_CHARS]} & set(forbidden):
                functions[name] = _function(name, full, server, tool, admit, home)
    return list(functions.values())


def _free_name(full: str, taken: Container[str]) -> str:
    """What models call a tool: its full name as far as that goes, numbered where it is taken."""
    name = full[:MAX_NAME_CHARS]
    for number in itertools.count(2):
        if name not in taken:
            break
        end = f"_{number}"
        name = full[: MAX_NAME_CHARS - len(end)] + end
    return name


def _function(
    name: str,
    full: str,
    server: ToolServer,
    tool: Tool,
    admit: Callable[[str, dict[str, Any]], Awaitable[dict[str, Any]]],
    home: asyncio.AbstractEventLoop,
) -> Function:
    async def use_at_home(arguments: dict[str, Any]) -> ToolResult:
        admitted = await admit(full, arguments)
        return _result(await server.call(tool.name, admitted))

    async def use(**arguments: Any) -> ToolResult:
        using = asyncio.run_coroutine_threadsafe(use_at_home(arguments), home)
        return await asyncio.wrap_future(using)

    return Function(
        name=name,
        description=tool.description or "",
        parameters=tool.input_schema,
        entrypoint=use,
        skip_entrypoint_processing=True,
    )


def _result(result: CallToolResult) -> ToolResult:
    texts: list[str] = []
    images: list[Image] = []
    for block in result.content:
        if isinstance(block, TextContent):
            texts.append(block.text)
        elif isinstance(block, ImageContent):
            content = base64.b64decode(block.data)
            images.append(Image(content=content, mime_type=block.mime_type))
        else:
            texts.append(f"[{block.type}]")
    text = "\n".join(texts)
    if (missing := len(text) - MAX_RESULT_CHARS) > 0:
        text = f"{text[:MAX_RESULT_CHARS]}\n[{missing} more characters were left out]"
    if result.is_error:
        raise ToolFailed(text or "the tool failed without a word")
    return ToolResult(content=text, images=images or None)
