"""Files that the CLI reads at start: what is secret, or too long for a command line."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from executor.agents.protocol import AgentJob
from shared.private_files import PRIVATE_DIRECTORY, PRIVATE_FILE, make_private_directory

MAX_INSTRUCTIONS_BYTES: Final = 100_000
"""How much of a repository's CLAUDE.md is read."""


@dataclass(frozen=True, slots=True)
class PrivateFiles:
    """A 0700 folder of one session, with 0600 files in it. Everything here blocks."""

    folder: Path
    system_prompt: Path | None
    """What is appended to Claude Code's own system prompt; ``None``: nothing."""
    mcp_config: Path | None
    """``{"mcpServers": …}``; ``None``: no servers."""

    @classmethod
    def write(cls, job: AgentJob, folder: Path) -> PrivateFiles:
        """Make *folder* and write what *job* needs; what fails half-way is left to the caller."""
        make_private_directory(folder.parent)
        folder.mkdir(mode=PRIVATE_DIRECTORY)
        appended = appended_prompt(job, read_instructions(job.cwd, job.session_dir))
        servers = job.request.first_bot.mcp_servers
        return cls(
            folder,
            _write(folder / "system-prompt.md", appended) if appended else None,
            _write(folder / "mcp.json", json.dumps({"mcpServers": servers})) if servers else None,
        )


def folder_in(private_dir: Path) -> Path:
    """A folder for one session's files that is not there yet."""
    return private_dir / f"claude-{secrets.token_hex(8)}"


def remove(folder: Path) -> None:
    """Delete a session's folder; harmless when it is gone or was never made."""
    shutil.rmtree(folder, ignore_errors=True)


def appended_prompt(job: AgentJob, instructions: str) -> str:
    """The texts appended to the system prompt: the request's, the bot's, the repository's."""
    parts = [job.request.system_prompt, job.request.first_bot.system_prompt]
    if instructions.strip():
        parts.append(f"Instructions of this repository (CLAUDE.md):\n\n{instructions}")
    return "\n\n".join(part.strip() for part in parts if part and part.strip())


def read_instructions(cwd: Path, session_dir: Path) -> str:
    """The start of the repository's CLAUDE.md; empty when it has none that may be read.

    It must be a plain file of the session: a link could lead to anybody's secrets.
    """
    try:
        path = (cwd / "CLAUDE.md").resolve(strict=True)
        if not path.is_relative_to(session_dir.resolve()) or not stat.S_ISREG(path.stat().st_mode):
            return ""
        with path.open("rb") as file:
            return file.read(MAX_INSTRUCTIONS_BYTES).decode("utf-8", "ignore")
    except OSError:
        return ""


def _write(path: Path, text: str) -> Path:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE)
    with os.fdopen(descriptor, "w", encoding="utf-8", errors="replace") as file:
        file.write(text)
    return path
