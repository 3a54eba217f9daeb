"""The MCP servers of one session: who may use which, and the walls around those that are programs.

A server that several members name in the same way is started once. Like Claude Code's own servers
they carry a mark, and their folder a record, by which a later executor finds what a killed one has
left (:mod:`executor.agents.orphans`).
"""

from __future__ import annotations

import asyncio
import json
import secrets
import ssl
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import psutil

from executor.agents import process_ending, process_tree
from executor.agents.agno.members import Member
from executor.agents.agno.servers import ToolServer, is_program
from executor.agents.claude_code.private_files import folder_in, remove
from executor.agents.claude_code.server_walls import ServerWalls, without_network
from executor.agents.claude_code.socket_filter import socket_filter
from executor.agents.orphans import AgentRecord
from executor.agents.protocol import AgentJob, Sandbox
from shared.private_files import make_private_directory
from shared.shielding import in_thread

GRACE_S: Final = 2.0
"""For what servers have started and left behind: from SIGTERM to SIGKILL."""

_NOT_FOR_SERVERS: Final = ("ANTHROPIC_", "OPENAI_", "CLAUDE_", "DISABLE_")
"""How variables begin that are there for Claude Code, keys included."""


class ServerRoom:
    """Opened once, closed once; what cannot be started is in :attr:`notices`."""

    def __init__(self, job: AgentJob, team: Member, trusted: ssl.SSLContext) -> None:
        """Nothing is started yet. *trusted* is whom connections to another machine trust."""
        self._job = job
        self._trusted = trusted
        self._folder = folder_in(job.private_dir)
        self._mark = secrets.token_hex(16)
        self._configured = {
            member.key: job.request.servers
            if member is team
            else job.request.servers_of(member.bot)
            for member in team.everyone()
        }
        self._servers: dict[str, ToolServer] = {}
        self._opened = False
        self.notices: list[str] = []
        """What the user should know about how they are confined, and which are missing."""

    @property
    def alive(self) -> bool:
        """Whether every server that could be started is connected still."""
        return all(server.alive or not server.tools for server in self._servers.values())

    def servers_of(self, member: Member) -> list[ToolServer]:
        """Those that *member* may use."""
        configured = self._configured[member.key]
        return [self._servers[_identity(name, server)] for name, server in configured.items()]

    def cpu_s(self) -> float:
        """CPU seconds of all that carries the mark. Blocks."""
        if not self._opened:
            return 0.0
        return sum(_cpu_s(process) for process in process_tree.marked(self._mark))

    async def open(self) -> None:
        """Start every server, all at once."""
        wanted = {
            _identity(name, server): (name, server)
            for configured in self._configured.values()
            for name, server in configured.items()
        }
        if not wanted:
            return
        self._opened = True
        walls = await in_thread(self._prepare)
        confined = []
        env = {**_environment(self._job.env), process_tree.MARK_VARIABLE: self._mark}
        for identity, (name, server) in wanted.items():
            if walls is not None and is_program(server):
                server = await in_thread(walls.around, server)
                confined.append(name)
            self._servers[identity] = ToolServer(
                name, server, env=env, cwd=self._job.cwd, trusted=self._trusted
            )
        if confined:
            self.notices.append(without_network(confined))
        async with asyncio.TaskGroup() as group:
            for one in self._servers.values():
                group.create_task(one.start())
        self.notices += [
            f"the MCP server {one.name} cannot be used: {one.problem}"
            for one in self._servers.values()
            if one.problem is not None
        ]

    async def close(self) -> None:
        """Disconnect from all of them, end those that are programs, and what they have started."""
        if not self._opened:
            return
        try:
            async with asyncio.TaskGroup() as group:
                for server in self._servers.values():
                    group.create_task(server.close())
            await process_ending.end((), self._mark, grace_s=GRACE_S)
        finally:
            await asyncio.to_thread(remove, self._folder)

    def _prepare(self) -> ServerWalls | None:
        """Make the folder; returns what walls are built from, if there are any."""
        make_private_directory(self._folder)
        AgentRecord.of(self._mark).write(self._folder)
        sandbox = self._job.sandbox
        return _walls(sandbox, self._job.cwd, self._folder) if sandbox is not None else None


def _walls(sandbox: Sandbox, cwd: Path, folder: Path) -> ServerWalls:
    temporary = folder / "tmp"
    make_private_directory(temporary)
    sockets = folder / "sockets.bpf"
    sockets.write_bytes(socket_filter() or b"")  # empty: bubblewrap ends
    return ServerWalls(sandbox, cwd, temporary, sockets)


def _identity(name: str, server: Mapping[str, Any]) -> str:
    return json.dumps([name, server], sort_keys=True, default=str)


def _environment(env: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value for name, value in env.items() if not name.upper().startswith(_NOT_FOR_SERVERS)
    }


def _cpu_s(process: psutil.Process) -> float:
    with suppress(psutil.Error):
        return float(sum(process.cpu_times()[:4]))
    return 0.0
