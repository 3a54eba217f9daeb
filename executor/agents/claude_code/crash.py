"""Why the CLI's process has ended by itself."""

from __future__ import annotations

import asyncio
import signal

from executor.agents.claude_code.cli_process import describe_status
from executor.agents.claude_code.transport import ProcessTransport
from executor.memory import SystemMemory
from shared.status import ErrorCode


class CrashReport:
    """What can be said of the end of one process."""

    def __init__(self, transport: ProcessTransport, memory: SystemMemory) -> None:
        self._transport = transport
        self._memory = memory
        self._oom_kills: int | None = None

    async def begin(self) -> None:
        """A start or a turn begins: of the kernel's kills, those from now on count."""
        self._oom_kills = await asyncio.to_thread(self._memory.oom_kills)

    async def code(self) -> ErrorCode:
        """``out_of_memory`` or ``agent_crashed``."""
        # Anybody may send a SIGKILL; only the kernel's own count says that it was the kernel.
        killed = self._transport.returncode == -signal.SIGKILL
        before = self._oom_kills
        now = await asyncio.to_thread(self._memory.oom_kills) if killed else None
        if before is not None and now is not None and now > before:
            return ErrorCode.OUT_OF_MEMORY
        return ErrorCode.AGENT_CRASHED

    def words(self) -> str:
        """How it ended, and its own last words."""
        status = self._transport.returncode
        how = "without an answer" if status is None else f"with {describe_status(status)}"
        last = "; ".join(self._transport.stderr_tail)
        return f"Claude Code ended {how}" + (f": {last}" if last else "")
