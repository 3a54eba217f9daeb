"""ClaudeCodeAgent: finds the CLI, loads the SDK off the event loop, opens sessions."""

from __future__ import annotations

import asyncio
import gc
import importlib.util
import os
import shutil
import sys
from pathlib import Path
from types import ModuleType

from executor.agents.claude_code.past_cost import past_cost_of
from executor.agents.protocol import AgentJob, AgentSession
from executor.memory import SystemMemory
from shared.errors import RunError
from shared.status import ErrorCode

_CLI_NAME = "claude.exe" if sys.platform == "win32" else "claude"


class ClaudeCodeAgent:
    """The agent ``claude_code``; see :class:`executor.agents.protocol.Agent`."""

    def __init__(self, cli_path: Path | None = None, memory: SystemMemory | None = None) -> None:
        """Nothing is started or imported yet.

        Args:
            cli_path: The operator's choice of CLI; ``None``: the SDK's own, then ``PATH``.
            memory: Tells why a CLI was killed; ``None``: this system's.
        """
        self._cli_path = cli_path
        self._memory = memory or SystemMemory()
        self._session_module: ModuleType | None = None

    def available(self) -> bool:
        """Whether there is a CLI to run. Looks at the disk: not for the event loop."""
        return self.find_cli() is not None

    def find_cli(self) -> Path | None:
        """The CLI to run, or ``None``. Looks at the disk: not for the event loop."""
        if self._cli_path is not None:
            usable = self._cli_path.is_file() and os.access(self._cli_path, os.X_OK)
            return self._cli_path if usable else None
        spec = importlib.util.find_spec("claude_agent_sdk")  # finds without importing
        if spec is not None and spec.origin is not None:
            bundled = Path(spec.origin).parent / "_bundled" / _CLI_NAME
            if bundled.is_file():
                return bundled
        found = shutil.which(_CLI_NAME)
        return Path(found) if found else None

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
        cli = await asyncio.to_thread(self.find_cli)
        if cli is None:
            where = f"at {self._cli_path}" if self._cli_path else "on this machine"
            raise RunError(
                ErrorCode.AGENT_ERROR,
                f"there is no Claude Code {where}",
                hint="install it with `npm install -g @anthropic-ai/claude-code`, or set "
                "WEGENT_CLAUDE_PATH to the claude executable",
            )
        await self.load()
        assert self._session_module is not None  # noqa: S101 - load() has just set it
        session: AgentSession = await self._session_module.open_session(job, cli, self._memory)
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
