"""The CLI as a child process with an exact environment, a session of its own and a certain end.

The SDK's own transport merges ``os.environ`` under the environment it is given, starts the CLI in
our process group, and leaves it running when ``disconnect()`` is cancelled twice.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Final

from claude_agent_sdk import (
    ClaudeAgentOptions,
    CLIConnectionError,
    CLIJSONDecodeError,
    ProcessError,
    Transport,
    __version__,
)
from claude_agent_sdk._internal.transport.subprocess_cli import SubprocessCLITransport

from executor.agents import process_ending, process_tree, subreaper
from executor.agents.claude_code import cli_process
from executor.agents.orphans import AgentRecord
from shared.shielding import finish, in_thread

EOF_GRACE_S: Final = 3.0
"""How long an idle CLI may take to end by itself: it flushes its conversation file."""

TERM_GRACE_S: Final = 5.0
"""How long after SIGTERM until SIGKILL. Source: the design's control rules."""

KILL_GRACE_S: Final = 5.0
"""How long the kernel may take to report a killed process."""

_STDERR_LINES: Final = 20
_STDERR_LINE_CHARS: Final = 500
_STDERR_CHUNK_BYTES: Final = 2**16


class ProcessTransport(Transport):
    """Speaks with one CLI process; :meth:`close` ends it and everything it started.

    Args:
        options: Only what becomes the command line is used.
        env: The environment of the process; nothing else is in it but what the SDK itself sets.
        folder: Where the process is written down, for an executor that comes after a killed one.
    """

    live: ClassVar[dict[str, subreaper.AgentTrace]] = {}
    """All processes that are not known to have ended, by their marks."""

    def __init__(self, options: ClaudeAgentOptions, env: Mapping[str, str], folder: Path) -> None:
        self._options = options
        self._folder = folder
        self._cwd = Path(options.cwd or "/")
        self._mark = secrets.token_hex(16)
        self._env = {
            **env,
            "CLAUDE_CODE_ENTRYPOINT": "sdk-py",
            "CLAUDE_AGENT_SDK_VERSION": __version__,
            "PWD": str(options.cwd),
            process_tree.MARK_VARIABLE: self._mark,
        }
        self._process: asyncio.subprocess.Process | None = None
        self._stderr_reader: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None
        self.busy = True
        """Whether it starts or a turn is under way: then it does not end at the end of input."""
        self.heard = 0
        """How many messages have come, of whatever kind."""
        self.stderr_tail: deque[str] = deque(maxlen=_STDERR_LINES)

    @property
    def pid(self) -> int | None:
        """The live process, or ``None``."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    @property
    def returncode(self) -> int | None:
        """How the process ended, negative for a signal; ``None`` while it lives."""
        return self._process.returncode if self._process is not None else None

    def command(self) -> list[str]:
        """The command line, as the SDK builds it for its own transport."""
        options = replace(self._options, permission_prompt_tool_name="stdio")
        # Private, but the only place that knows every option; a test guards it.
        return SubprocessCLITransport("", options)._build_command()  # noqa: SLF001

    async def connect(self) -> None:
        """Start the process.

        Raises:
            CLIConnectionError: It cannot be started.
        """
        if self._process is not None:
            return
        self.live[self._mark] = subreaper.AgentTrace(self._cwd)
        await asyncio.to_thread(self._write_down, None)
        try:
            self._process = await cli_process.start(
                self.command(),
                cwd=self._cwd,
                env=self._env,
                limit=self._options.max_buffer_size or 2**20,
            )
        except OSError as exc:
            raise CLIConnectionError(f"it cannot be started: {exc.strerror}") from exc
        except ValueError as exc:  # an argument that no command line can carry
            raise CLIConnectionError(f"it cannot be started: {exc}") from exc
        self._stderr_reader = asyncio.create_task(self._read_stderr(), name="claude stderr")
        await asyncio.to_thread(self._write_down, self._process.pid)
        self.live[self._mark] = await asyncio.to_thread(
            subreaper.AgentTrace.of, self._process.pid, self._cwd
        )

    def _write_down(self, pid: int | None) -> None:
        AgentRecord.of(self._mark, pid).write(self._folder)

    async def write(self, data: str) -> None:
        """Send one line.

        Raises:
            CLIConnectionError: The process is gone.
        """
        process = self._process
        if process is None or process.stdin is None or process.returncode is not None:
            raise CLIConnectionError("the process is gone")
        try:
            process.stdin.write(data.encode("utf-8", "replace"))
            await process.stdin.drain()
        except (ConnectionError, RuntimeError) as exc:
            raise CLIConnectionError("the process is gone") from exc

    def read_messages(self) -> AsyncIterator[dict[str, Any]]:
        """What the process writes, message by message; ends when the process does while idle.

        Raises:
            ProcessError: The process ended while it was busy, with whatever status.
            CLIJSONDecodeError: It wrote a line that is broken or beyond the limit.
        """
        return self._read_messages()

    async def _read_messages(self) -> AsyncIterator[dict[str, Any]]:
        process = self._process
        if process is None or process.stdout is None:
            raise CLIConnectionError("not connected")
        while True:
            try:
                line = await process.stdout.readline()
            except ValueError as exc:
                raise CLIJSONDecodeError("a message beyond the limit", exc) from exc
            if not line:
                break
            # Some builds write notes of their own between the messages.
            if line.lstrip().startswith(b"{"):
                self.heard += 1
                try:
                    yield json.loads(line)
                except ValueError as exc:
                    raise CLIJSONDecodeError("a broken message", exc) from exc
        status = await process.wait()
        if not self.busy:
            return  # it died idle, or was asked to: nobody waits for an answer
        raise ProcessError(cli_process.describe_status(status), exit_code=status)

    async def _read_stderr(self) -> None:
        process = self._process
        if process is None or process.stderr is None:
            return
        line = b""
        while chunk := await process.stderr.read(_STDERR_CHUNK_BYTES):
            *lines, line = (line + chunk).split(b"\n")
            for complete in lines:
                self._note(complete)
            line = line[:_STDERR_CHUNK_BYTES]
        self._note(line)

    def _note(self, line: bytes) -> None:
        text = line.decode("utf-8", "replace").strip()[:_STDERR_LINE_CHARS]
        if text:
            self.stderr_tail.append(text)
            if self._options.stderr is not None:
                self._options.stderr(text)

    async def end_input(self) -> None:
        """Close the process's input."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()

    def is_ready(self) -> bool:
        """Whether the process lives."""
        return self.pid is not None

    def tools_cpu_s(self) -> float:
        """See :meth:`executor.agents.protocol.AgentSession.tools_cpu_s`. Blocks."""
        pid = self.pid
        return process_tree.tools_cpu_s(pid, self._mark) if pid is not None else 0.0

    def kill(self) -> None:
        """End the process at once; what it started is left to :meth:`close`."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    async def close(self) -> None:
        """End the process and everything it started, also while being cancelled.

        End of input and grace when no turn is under way; SIGTERM to all of them at once, grace,
        SIGKILL. Some 0.2 s as a rule; at worst 6 s, and 3 s more when no turn was under way.
        Harmless when called again.
        """
        if self._closing is None:
            self._closing = asyncio.create_task(self._end(), name="end claude")
        await finish(self._closing)

    async def _end(self) -> None:
        process = self._process
        if process is None:
            self.live.pop(self._mark, None)
            return
        # Once it has been waited for, its number may be another's.
        pid = self.pid
        tree = [] if pid is None else await in_thread(process_tree.tree, pid, time.monotonic())
        try:
            await self.end_input()
            if not self.busy:
                await cli_process.ended(process, EOF_GRACE_S)
            loop = asyncio.get_running_loop()
            grace_ends = loop.time() + TERM_GRACE_S
            await process_ending.end(tree, self._mark, grace_s=TERM_GRACE_S)
            await cli_process.ended(process, KILL_GRACE_S)
            self.live.pop(self._mark, None)
            others = tuple(self.live.values())
            strays = await in_thread(subreaper.strays, self._cwd, others=others)
            if strays:
                left_s = max(0.0, grace_ends - loop.time())
                await process_ending.end(strays, self._mark, grace_s=left_s)
        except asyncio.CancelledError:
            # The event loop is being closed: nobody waits any more.
            self.kill()
            await in_thread(process_ending.kill, tree, self._mark)
            await cli_process.ended(process, KILL_GRACE_S)
            raise
        if self._stderr_reader is not None:
            self._stderr_reader.cancel()
            await asyncio.wait({self._stderr_reader})
