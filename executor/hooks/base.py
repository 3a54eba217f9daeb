"""The interface of hooks, and what they see of a run. See ``docs/hooks.md``."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, ClassVar

from shared.protocol.events import AgentEvent


@dataclass(frozen=True, slots=True)
class TaskConfig:
    """What a run was asked to do, without anything secret.

    ``None``: the request does not say, or is not known any more, as for a run in a container that
    has outlived the executor's process.
    """

    run_id: str
    session_id: str
    attempt: int
    prompt: str | None = None
    agent_type: str | None = None
    model: str | None = None
    repo_url: str | None = None
    """Without a login."""
    git_branch: str | None = None
    max_turns: int | None = None
    custom_instructions: str | None = None
    permission_mode: str | None = None
    timeout_seconds: float | None = None
    mcp_servers: tuple[str, ...] = ()
    """Their names, like those of what follows."""
    skills: tuple[str, ...] = ()
    input_files: tuple[str, ...] = ()
    attachments: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Todo:
    """One entry of the agent's list."""

    content: str
    status: str
    """``pending``, ``in_progress`` or ``completed``."""
    active_form: str = ""


@dataclass(frozen=True, slots=True)
class AgentState:
    """How far a run is when a turn begins."""

    sdk_session_id: str | None = None
    """The agent's own name of the conversation; ``None``: not known yet."""
    workspace: str | None = None
    """Where the agent works; ``None``: nothing is prepared yet."""
    todos: tuple[Todo, ...] = ()
    tool_calls: int = 0
    """How many have ended."""


class Hook:
    """Observes one run: a new instance is made for each, without arguments.

    Override what is of interest. Calls come one after the other, on a thread of their own with its
    own event loop, so a hook may block; it must end within ``HOOK_TIMEOUT_SECONDS``. Nothing that
    a hook does or raises changes the run.
    """

    async def before_execution(self, config: TaskConfig) -> None:
        """The run begins, or goes on after a restart; nothing is prepared yet."""

    async def on_agent_turn(self, turn: int, state: AgentState) -> None:
        """The agent begins an answer: *turn* counts them from 1."""

    async def on_tool_call(
        self, turn: int, tool_name: str, tool_input: dict[str, Any], tool_output: Any
    ) -> None:
        """A tool that was called in *turn* has ended; *tool_output* ``None``: it never did."""

    async def on_response(self, turn: int, response: str) -> None:
        """A message of the agent is complete: all of its text."""

    async def after_execution(self, success: bool, error: str | None) -> None:
        """The run has ended; *error* says why it did not complete."""


class EventHook(Hook):
    """A hook that also sees what the five calls do not tell."""

    events: ClassVar[Collection[str] | None] = None
    """Which types of events it wants; ``None``: all of them."""

    async def on_event(self, event: AgentEvent) -> None:
        """Any event of the run but pieces of streamed text; before the calls it leads to."""
