"""Claude Code for tests: the real one, and scripts that only answer a question for the version."""

from __future__ import annotations

import hashlib
import json
import lzma
import struct
from pathlib import Path

from executor.agents.claude_code.agent import ClaudeCodeAgent
from executor.agents.claude_code.location import Claude, ClaudeSearch, Origin, bundled_claude
from executor.memory import SystemMemory
from executor.packaged.carried_cli import ENTRY, CarriedCli

REAL = bundled_claude()
"""The CLI of the SDK's wheel; looked for here, since tests on the event loop may not."""

NEW = "2.1.400"
"""A version that is recent enough."""


def claude_agent(cli: Path | None = None, memory: SystemMemory | None = None) -> ClaudeCodeAgent:
    """An agent that runs *cli*, whatever that is; ``None``: the real one, of the SDK's wheel."""
    path = cli or REAL
    assert path is not None
    return ClaudeCodeAgent(ClaudeSearch(Claude(path, NEW, Origin.SETTING), (), ""), memory)


def says(version: str, path: Path, *, then: str = "") -> Path:
    """A CLI at *path* that answers ``--version``; *then*: what else its script does."""
    return program(path, f"echo '{version} (Claude Code)'\n{then}")


def program(path: Path, script: str) -> Path:
    """A program at *path*: a script of the shell."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def carried(content: bytes, packed: Path, version: str = NEW) -> CarriedCli:
    """*content* as a CLI that is carried; *packed* is where it lies compressed."""
    packed.write_bytes(lzma.compress(content, preset=0))
    return CarriedCli(version, len(content), hashlib.sha256(content).hexdigest(), packed, 0)


def executable_with(content: bytes, path: Path, version: str = NEW) -> Path:
    """An executable at *path* that carries *content*; see :mod:`executor.packaged.carried_cli`.

    The layout is that of PyInstaller's archive: entries, table of contents, cookie.
    """
    about = {
        "version": version,
        "size": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    entry = json.dumps(about).encode() + b"\n" + lzma.compress(content, preset=0)
    name = ENTRY.encode() + b"\0"
    head = struct.Struct("!IIIIBc")
    toc = head.pack(head.size + len(name), 0, len(entry), len(entry), 0, b"x") + name
    cookie = struct.Struct("!8sIIII64s")
    length = len(entry) + len(toc) + cookie.size
    end = cookie.pack(b"MEI\014\013\012\013\016", length, len(entry), len(toc), 311, b"")
    path.write_bytes(b"the loader" + entry + toc + end)
    return path
