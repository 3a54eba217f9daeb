"""What the CLI's tools may do: each use is put to the policy, and if that says so to the user."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from claude_agent_sdk import PermissionResultAllow, PermissionResultDeny, ToolPermissionContext
from claude_agent_sdk.types import HookContext, HookInput, HookJSONOutput

from executor.agents.protocol import Ask, ToolPolicy
from shared.logging import get_logger
from shared.protocol.events import Source

logger = get_logger("claude_code")


@dataclass(frozen=True, slots=True)
class User:
    """Whom the agent asks during a turn."""

    ask: Ask
    source_of: Callable[[str | None], Source]
    """From the CLI's id of a sub-agent to who that is; ``None``: the agent itself."""


class ToolGate:
    """The two callbacks by which the CLI asks; the same for every turn of a session."""

    def __init__(self, policy: ToolPolicy) -> None:
        self._policy = policy
        self.user: User | None = None
        """``None``: the policy decides alone."""
        self.planned = False
        """Whether plan mode was entered or left: the CLI is not in its first mode any more."""

    async def before_tool(
        self, call: HookInput, _tool_id: str | None, _context: HookContext
    ) -> HookJSONOutput:
        """The hook ``PreToolUse``.

        Sees every use of every tool: also those that settings, modes or the CLI itself pre-approve,
        and those of sub-agents. It only forbids; what is left is asked as usual.
        """
        if call["hook_event_name"] != "PreToolUse":
            return {}
        decision = await self._policy(call["tool_name"], call["tool_input"])
        if decision.allowed:
            self.planned |= call["tool_name"] in ("EnterPlanMode", "ExitPlanMode")
            return {}
        logger.info("tool use denied", tool=call["tool_name"])
        return {
            "hookSpecificOutput": {
                "hookEventName": "PreToolUse",
                "permissionDecision": "deny",
                "permissionDecisionReason": decision.message,
            }
        }

    async def can_use_tool(
        self, tool: str, arguments: dict[str, Any], context: ToolPermissionContext
    ) -> PermissionResultAllow | PermissionResultDeny:
        """Decide in the place of the CLI's own user."""
        decision = await self._policy(tool, arguments, asked=True)
        if decision.question is not None and self.user is not None:
            source = self.user.source_of(context.agent_id)
            answer = await self.user.ask(decision.question, tool, arguments, source)
            decision = answer if answer is not None else decision
        if decision.allowed:
            return PermissionResultAllow(updated_input=decision.updated_input)
        logger.info("tool use denied", tool=tool)
        return PermissionResultDeny(message=decision.message)
