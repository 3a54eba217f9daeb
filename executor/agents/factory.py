"""From the name of an agent to the agent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from executor.agents.protocol import Agent
from shared.errors import Refusal
from shared.status import ErrorCode

CLAUDE_CODE: Final = "claude_code"


class AgentFactory:
    """The known kinds of agent, by the name that requests and events use."""

    def __init__(
        self, agents: Mapping[str, Agent], absent: Mapping[str, str] | None = None
    ) -> None:
        """*absent* are those that could be had, by name, and how to have them."""
        self._agents = dict(agents)
        self._names = {_plain(name): name for name in self._agents}
        self._absent = {_plain(name): remedy for name, remedy in (absent or {}).items()}

    @property
    def names(self) -> list[str]:
        """The known names, for the capabilities of a register."""
        return list(self._agents)

    def resolve(self, requested: str) -> tuple[str, Agent]:
        """The agent's own name and the agent; case, ``_`` and ``-`` in *requested* do not matter.

        Raises:
            Refusal: ``unsupported_agent``, with the list of known ones.
        """
        name = self._names.get(_plain(requested))
        if name is None and (remedy := self._absent.get(_plain(requested))) is not None:
            raise Refusal(
                ErrorCode.UNSUPPORTED_AGENT,
                f"the agent {requested[:64]!r} is not installed here",
                hint=f"on the executor's machine: {remedy}; then restart the executor",
            )
        if name is None:
            raise Refusal(
                ErrorCode.UNSUPPORTED_AGENT,
                f"unknown agent type {requested[:64]!r}",
                hint=f"this executor runs: {', '.join(self._agents)}",
            )
        return name, self._agents[name]


def is_claude_code(requested: str) -> bool:
    """Whether a request that names its agent *requested* means Claude Code."""
    return _plain(requested) == _plain(CLAUDE_CODE)


def _plain(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "")
