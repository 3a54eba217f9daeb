"""The members of the team that a backend assigned to a run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, Field, model_validator

from shared.protocol.part import Part
from shared.protocol.provisions import McpServers, Skills

MAX_SYSTEM_PROMPT_BYTES: Final = 100_000
"""Longest ``system_prompt``, as UTF-8; source: the local protocol."""

PermissionMode = Literal["default", "acceptEdits", "plan", "bypassPermissions", "dontAsk", "auto"]


def _check_length(value: str | None) -> str | None:
    if value is not None and len(value.encode("utf-8", "replace")) > MAX_SYSTEM_PROMPT_BYTES:
        raise ValueError(f"must be at most {MAX_SYSTEM_PROMPT_BYTES} bytes of UTF-8")
    return value


SystemPrompt = Annotated[str | None, AfterValidator(_check_length)]


class _Sparse(Part):
    """A part of which anything may be null for "not said", as backends write it."""

    @model_validator(mode="before")
    @classmethod
    def _absent_is_none(cls, raw: Any) -> Any:
        if not isinstance(raw, dict):
            return raw
        return {name: value for name, value in raw.items() if value is not None}


class AgentConfig(_Sparse):
    """``bot[].agent_config``: what the agent's process gets as environment."""

    env: dict[str, Any] = Field(default_factory=dict, repr=False)


class Bot(_Sparse):
    """One member of the team that a backend assigned; local mode uses the first."""

    id: int | str | None = None
    name: str | None = None
    shell_type: str | None = None
    agent_config: AgentConfig = Field(default_factory=AgentConfig)
    system_prompt: SystemPrompt = None
    mcp_servers: McpServers | None = Field(default=None, repr=False)
    skills: Skills | None = None
    allowed_tools: list[str] | None = None
    disallowed_tools: list[str] | None = None
    max_turns: Annotated[int, Field(ge=1)] | None = None
    permission_mode: PermissionMode | None = None
    role: str | None = None
    """What a leader is told that this member is for."""
    members: list[Bot] = Field(default_factory=list)
    """Whom it leads; empty: it works by itself."""
    mode: str | None = None
    """How it leads them: ``coordinate``, ``collaborate`` or ``route``."""
    team_name: str | None = None
    """What those that it leads are called together; ``None``: as it is called itself."""

    def everyone(self) -> Iterator[Bot]:
        """This bot and all that it leads."""
        yield self
        for member in self.members:
            yield from member.everyone()
