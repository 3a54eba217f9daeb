"""Files that the CLI reads at start: what is secret, or too long for a command line."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from executor.agents.claude_code.kernel_settings import place_bubblewrap
from executor.agents.claude_code.sandbox import excluded_masks
from executor.agents.claude_code.server_walls import ServerWalls, is_command, without_network
from executor.agents.claude_code.socket_filter import socket_filter
from executor.agents.orphans import FOLDERS
from executor.agents.protocol import AgentJob
from executor.plain_files import read_plain
from executor.session_places import INPUT, OUTPUT
from shared.errors import RunError
from shared.private_files import PRIVATE_DIRECTORY, PRIVATE_FILE, make_private_directory
from shared.status import ErrorCode

MAX_INSTRUCTIONS_BYTES: Final = 100_000
"""How much of a repository's CLAUDE.md is read."""


MAX_LISTED_FILES: Final = 50
"""How many input files the agent is told by name."""

MAX_SERVERS_BYTES: Final = 1_000_000
"""How much of a trusted repository's ``.mcp.json`` is read."""


@dataclass(frozen=True, slots=True)
class PrivateFiles:
    """A 0700 folder of one session, with 0600 files in it. Everything here blocks."""

    folder: Path
    system_prompt: Path | None
    """What is appended to Claude Code's own system prompt; ``None``: nothing."""
    mcp_config: Path | None
    """``{"mcpServers": …}``; ``None``: no servers."""
    temporary: Path | None = None
    """Where sandboxed commands keep temporary files; ``None`` without a sandbox."""
    git_excludes: Path | None = None
    """In ``temporary``: what git ignores besides a repository's own rules."""
    programs: Path | None = None
    """What comes first in the CLI's ``PATH``; ``None``: nothing."""
    notice: str | None = None
    """What the user should know about how this session is confined."""

    @classmethod
    def write(cls, job: AgentJob, folder: Path) -> PrivateFiles:
        """Make *folder* and write what *job* needs; of a failure only *folder* is left.

        Raises:
            RunError: ``workspace_error``: the skills are not what was placed any more;
                ``isolation_unavailable``: the sandbox cannot be prepared.
        """
        if job.skills is not None and not job.skills.is_untouched():
            # They may name programs, which would run outside of every wall.
            raise RunError(ErrorCode.WORKSPACE_ERROR, "the run's skills were changed by somebody")
        make_private_directory(folder.parent)
        folder.mkdir(mode=PRIVATE_DIRECTORY)
        if job.sandbox is None:
            return cls._fill(job, folder, None)
        temporary = _temporary_folder(job.sandbox.temporary)
        try:
            return cls._fill(job, folder, temporary)
        except BaseException:
            remove(temporary)
            raise

    @classmethod
    def _fill(cls, job: AgentJob, folder: Path, temporary: Path | None) -> PrivateFiles:
        # Trusted, the CLI reads them by itself.
        own = "" if job.trust_repository else read_instructions(job.cwd, job.session_dir)
        appended = appended_prompt(job, own)
        servers = job.request.servers
        excludes = programs = notice = None
        if job.sandbox is not None and temporary is not None:
            excludes = _write(temporary / "git-excludes", excluded_masks(_own_excludes(job.env)))
            programs = place_bubblewrap(folder / "bin", job.env)
            commands = [name for name, server in servers.items() if is_command(server)]
            if commands:
                walls = ServerWalls(job.sandbox, job.cwd, temporary, folder / "sockets.bpf")
                _write_bytes(walls.filter, socket_filter() or b"")  # empty: bubblewrap ends
                servers |= {name: walls.around(servers[name]) for name in commands}
                notice = without_network(commands)
        if job.trust_repository:
            servers = {**read_servers(job.cwd, job.session_dir), **servers}
        return cls(
            folder,
            _write(folder / "system-prompt.md", appended) if appended else None,
            _write(folder / "mcp.json", json.dumps({"mcpServers": servers})) if servers else None,
            temporary,
            excludes,
            programs,
            notice,
        )

    def remove(self) -> None:
        """Delete the folders; harmless when called again."""
        remove(self.folder)
        if self.temporary is not None:
            remove(self.temporary)
            with suppress(OSError):
                self.temporary.parent.rmdir()  # unless other sessions have theirs in it


def folder_in(private_dir: Path) -> Path:
    """A folder for one session's files that is not there yet."""
    return private_dir / f"{FOLDERS.removesuffix('*')}{secrets.token_hex(8)}"


def remove(folder: Path) -> None:
    """Delete a session's folder; harmless when it is gone or was never made."""
    shutil.rmtree(folder, ignore_errors=True)


def appended_prompt(job: AgentJob, instructions: str) -> str:
    """The texts appended to the system prompt: the request's, the bot's, ours, the repository's."""
    parts = [job.request.system_prompt, job.request.first_bot.system_prompt]
    if job.request.input_files:
        parts.append(_about_files(job))
    if instructions.strip():
        parts.append(f"Instructions of this repository (CLAUDE.md):\n\n{instructions}")
    return "\n\n".join(part.strip() for part in parts if part and part.strip())


def _about_files(job: AgentJob) -> str:
    names = [file.filename for file in job.request.input_files]
    more = f" and {len(names) - MAX_LISTED_FILES} more" if len(names) > MAX_LISTED_FILES else ""
    listed = ", ".join(names[:MAX_LISTED_FILES])
    return (
        f"Files that came with the user's task are in {job.session_dir / INPUT}: {listed}{more}.\n"
        f"Put files that are meant for the user into {job.session_dir / OUTPUT}."
    )


def read_instructions(cwd: Path, session_dir: Path) -> str:
    """The start of the repository's CLAUDE.md; empty when it has none that may be read."""
    return _read_inside(cwd / "CLAUDE.md", session_dir, MAX_INSTRUCTIONS_BYTES)


def read_servers(cwd: Path, session_dir: Path) -> dict[str, Any]:
    """The MCP servers of a trusted repository's ``.mcp.json``; none when it is unusable."""
    try:
        servers = json.loads(_read_inside(cwd / ".mcp.json", session_dir, MAX_SERVERS_BYTES))
        return {str(name): dict(server) for name, server in servers["mcpServers"].items()}
    except (ValueError, TypeError, KeyError, AttributeError):
        return {}


def _read_inside(path: Path, session_dir: Path, limit: int) -> str:
    # It must be a plain file of the session: a link could lead to anybody's secrets.
    try:
        path = path.resolve(strict=True)
        if not path.is_relative_to(session_dir.resolve()):
            return ""
        content = read_plain(path, limit)
    except OSError:
        return ""
    return (content or b"").decode("utf-8", "ignore")


def _own_excludes(env: Mapping[str, str]) -> str:
    folder = env.get("XDG_CONFIG_HOME") or str(Path(env.get("HOME", "~")).expanduser() / ".config")
    try:
        return (Path(folder) / "git" / "ignore").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _temporary_folder(parent: Path) -> Path:
    make_private_directory(parent)
    status = parent.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        raise RunError(
            ErrorCode.ISOLATION_UNAVAILABLE,
            f"the sandbox's folder for temporary files, {parent}, belongs to somebody else",
            hint="remove it",
        )
    try:
        return Path(tempfile.mkdtemp(dir=parent, prefix=""))
    except FileNotFoundError:  # another session, the last one, has just removed it
        return _temporary_folder(parent)


def _write(path: Path, text: str) -> Path:
    return _write_bytes(path, text.encode("utf-8", "replace"))


def _write_bytes(path: Path, content: bytes) -> Path:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    return path
