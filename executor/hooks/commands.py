"""Executables as hooks: each call starts a program of ``{home}/hooks/`` with JSON on its input."""

from __future__ import annotations

import asyncio
import json
import os
import re
import secrets
import signal
import stat
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from executor.agents import process_ending, process_tree
from executor.hooks.base import AgentState, Hook, TaskConfig
from shared.errors import WegentError
from shared.logging import get_logger
from shared.protocol.events import utc_timestamp
from shared.shielding import finish

logger = get_logger("hooks")

FOLDER: Final = "hooks"

MAX_OUTPUT_BYTES: Final = 8 * 1024
"""How much of a program's output, its end, is logged when it fails."""

PIPE_GRACE_S: Final = 0.5
"""How long output may follow a program that has ended."""

_INHERITED: Final = frozenset(
    {"PATH", "HOME", "USER", "LOGNAME", "LANG", "TZ", "TMPDIR", "TEMP", "TMP",
     "SYSTEMROOT", "SYSTEMDRIVE", "WINDIR", "COMSPEC", "PATHEXT", "USERPROFILE"}
)  # fmt: skip
"""All that a program gets of the executor's variables, beside ``LC_*``: none of them is secret."""

_ON_WINDOWS: Final = frozenset({".exe", ".bat", ".cmd"})
_CONTROL: Final = re.compile(r"\x1b\[[0-9;]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f]")


class CommandFailed(WegentError):
    """A program reported an error, or cannot be started."""

    code = "hook_failed"


def find_commands(home: Path) -> list[Path]:
    """The programs in ``{home}/hooks/``, by name; says which are not used, and why. Blocks."""
    folder = home / FOLDER
    try:
        entries = sorted(folder.iterdir())
    except FileNotFoundError:
        return []
    except OSError as exc:
        logger.warning("%s cannot be read: %s", folder, exc.strerror)
        return []
    found = []
    for path in entries:
        if path.name.startswith(".") or path.name.endswith("~"):
            continue
        if problem := why_not(path):
            logger.warning("%s is not used as a hook: %s", path, problem)
        else:
            found.append(path)
    return found


def why_not(path: Path) -> str | None:
    """Why the program *path* is not to be started; ``None``: it may be. Blocks.

    Whoever could change it, or put another in its place, would have what the executor has.
    """
    try:
        for place in (path.parent.parent.resolve(), path.parent, path):
            status = place.lstat()
            if stat.S_ISLNK(status.st_mode):
                return f"{place} is a link"
            if os.name == "posix" and status.st_uid not in (0, os.getuid()):
                return f"{place} belongs to another user"
            if os.name == "posix" and status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                return f"others may write {place}: chmod go-w"
        if not stat.S_ISREG(status.st_mode):
            return "it is no file"
        if os.name == "posix" and not os.access(path, os.X_OK):
            return "it is not executable: chmod +x"
        if os.name != "posix" and path.suffix.lower() not in _ON_WINDOWS:
            return "it is no program"
    except OSError as exc:
        return exc.strerror or type(exc).__name__
    return None


class CommandHook(Hook):
    """Starts a program for each call, and ends all that it leaves.

    Args:
        program: Checked before each start, see :func:`why_not`.
        environ: The executor's environment; the program gets little of it.
    """

    def __init__(self, program: Path, environ: Mapping[str, str]) -> None:
        self._program = program
        self._mark = f"hook-{secrets.token_hex(8)}"
        self._environ = {
            name: value
            for name, value in environ.items()
            if name.upper() in _INHERITED or name.startswith("LC_")
        } | {process_tree.MARK_VARIABLE: self._mark}
        self._run: dict[str, Any] = {}

    async def before_execution(self, config: TaskConfig) -> None:
        self._run = {
            "run_id": config.run_id,
            "session_id": config.session_id,
            "attempt": config.attempt,
        }
        await self._call("before_execution", config=asdict(config))

    async def on_agent_turn(self, turn: int, state: AgentState) -> None:
        await self._call("on_agent_turn", turn=turn, state=asdict(state))

    async def on_tool_call(
        self, turn: int, tool_name: str, tool_input: dict[str, Any], tool_output: Any
    ) -> None:
        await self._call(
            "on_tool_call",
            turn=turn,
            tool_name=tool_name,
            tool_input=tool_input,
            tool_output=tool_output,
        )

    async def on_response(self, turn: int, response: str) -> None:
        await self._call("on_response", turn=turn, response=response)

    async def after_execution(self, success: bool, error: str | None) -> None:
        try:
            await self._call("after_execution", success=success, error=error)
        finally:
            # What has left the program's group is found by its mark.
            await finish(process_ending.end([], self._mark, grace_s=0.5))

    async def _call(self, hook: str, **data: Any) -> None:
        if problem := await asyncio.to_thread(why_not, self._program):
            raise CommandFailed(f"{self._program} is not started: {problem}")
        message = {"hook": hook, **self._run, "timestamp": utc_timestamp(), **data}
        line = json.dumps(message, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
        transport, process = await self._start()
        try:
            stdin = transport.get_pipe_transport(0)
            if isinstance(stdin, asyncio.WriteTransport):
                stdin.write(line)
                stdin.write_eof()
            await process.exited.wait()
        except asyncio.CancelledError:
            _kill_group(transport)
            await finish(process_ending.end([], self._mark, grace_s=0))
            raise
        finally:
            _kill_group(transport)
            await finish(_closed(transport, process))
        if status := transport.get_returncode():
            output = _CONTROL.sub("", process.output.decode("utf-8", "replace")).strip()
            logger.warning("%s %s: exit status %s\n%s", self._program.name, hook, status, output)
            raise CommandFailed(f"{self._program.name} ended with status {status}")

    async def _start(self) -> tuple[asyncio.SubprocessTransport, _Process]:
        loop = asyncio.get_running_loop()
        more: dict[str, Any] = {"start_new_session": True} if sys.platform != "win32" else {}
        starting = asyncio.ensure_future(
            loop.subprocess_exec(
                _Process,
                str(self._program),
                cwd=self._program.parent,
                env=self._environ,
                **more,
            )
        )
        try:
            # Asyncio, cancelled in there, would kill the program but not what it has started.
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            with suppress(OSError):
                transport, process = await finish(_awaited(starting))
                _kill_group(transport)
                await finish(_closed(transport, process))
            raise
        except OSError as exc:
            raise CommandFailed(f"{self._program} cannot be started: {exc.strerror}") from exc


class _Process(asyncio.SubprocessProtocol):
    """Keeps the end of the output; the end of the process is its own, whoever holds its pipes."""

    def __init__(self) -> None:
        self.output = bytearray()
        self.exited = asyncio.Event()
        self.closed = asyncio.Event()

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self.output += data
        del self.output[:-MAX_OUTPUT_BYTES]

    def process_exited(self) -> None:
        self.exited.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed.set()


async def _awaited(
    starting: asyncio.Future[tuple[asyncio.SubprocessTransport, _Process]],
) -> tuple[asyncio.SubprocessTransport, _Process]:
    return await starting


async def _closed(transport: asyncio.SubprocessTransport, process: _Process) -> None:
    await process.exited.wait()
    with suppress(TimeoutError):
        async with asyncio.timeout(PIPE_GRACE_S):
            await process.closed.wait()
    transport.close()


def _kill_group(transport: asyncio.SubprocessTransport) -> None:
    """End the program and all of its group; a group that still has members keeps its number."""
    with suppress(ProcessLookupError, PermissionError):  # gone; on macOS a zombie
        if sys.platform != "win32":
            os.killpg(transport.get_pid(), signal.SIGKILL)
        else:
            transport.kill()
