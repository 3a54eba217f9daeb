"""ClaudeCodeAgent: loads the SDK off the event loop, opens sessions."""

from __future__ import annotations

import asyncio
import gc
from types import ModuleType

from executor.agents.claude_code.location import ClaudeSearch
from executor.agents.claude_code.past_cost import past_cost_of
from executor.agents.protocol import AgentJob, AgentSession
from executor.memory import SystemMemory
from shared.errors import RunError
from shared.status import ErrorCode


class ClaudeCodeAgent:
    """The agent ``claude_code``; see :class:`executor.agents.protocol.Agent`."""

    def __init__(self, search: ClaudeSearch, memory: SystemMemory | None = None) -> None:
        """Nothing is started or imported yet.

        Args:
            search: What :func:`.location.find_claude` has found.
            memory: Tells why a CLI was killed; ``None``: this system's.
        """
        self._search = search
        self._memory = memory or SystemMemory()
        self._session_module: ModuleType | None = None

    async def load(self) -> None:
        """Import the SDK in a thread."""
        if self._session_module is None:
            self._session_module = await asyncio.to_thread(_import_session)

    async def past_cost_usd(self, job: AgentJob) -> float:
        """What the CLI has written down of ``job.resume``."""
        return await asyncio.to_thread(past_cost_of, job)

    async def open(self, job: AgentJob) -> AgentSession:
        """Start the CLI, or continue ``job.resume``; a conversation that is gone is begun anew.

        Raises:
            RunError: ``agent_error`` when there is no CLI or it does not answer,
                ``agent_crashed`` or ``out_of_memory`` when it ends at once.
        """
        claude = self._search.claude
        if claude is None:
            raise RunError(
                ErrorCode.AGENT_ERROR,
                str(self._search.problem),
                hint=f"on the executor's machine: {self._search.remedy}; then restart the executor",
            )
        await self.load()
        assert self._session_module is not None  # noqa: S101 - load() has just set it
        session: AgentSession = await self._session_module.open_session(
            job, claude.path, self._memory
        )
        return session


def _import_session() -> ModuleType:
    # Collections on the way would stop the event loop, too, for 60 ms; and they would be in vain,
    # here and later, since what is imported stays.
    gc.disable()
    try:
        from executor.agents.claude_code import session
    finally:
        gc.freeze()
        gc.enable()
    return session
