"""Rules that name tools, as ``allowed_tools`` lists them: ``Read``, ``Bash(git:*)``, ``mcp__x``.

They restrict, so a rule allows only what it certainly means: a specifier that cannot be checked
here allows nothing.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

from executor.agents import mcp_names

_ALIASES: Final = {"Task": "Agent", "KillShell": "TaskStop", "KillBash": "TaskStop"}
"""Older names of tools; the CLI takes them too."""

_PATHS: Final = {"NotebookEdit": "notebook_path", "NotebookRead": "notebook_path"}
_PATH_TOOLS: Final = frozenset({"Read", "Write", "Edit", "MultiEdit", *_PATHS})
_SHELL_PUNCTUATION: Final = frozenset("();<>|&")


class Place(Protocol):
    """What rules are about."""

    @property
    def cwd(self) -> Path:
        """The working directory: what relative paths in rules are relative to."""
        ...

    @property
    def servers(self) -> Collection[str]:
        """The full names of the MCP servers, as far as they are known."""
        ...


def canonical_tool(name: str) -> str:
    """The present name of a tool."""
    return _ALIASES.get(name, name)


@dataclass(frozen=True, slots=True)
class ToolRule:
    """One entry of ``allowed_tools``."""

    text: str
    tool: str
    specifier: str | None
    """What stands in parentheses; ``None``: every use of the tool."""

    @classmethod
    def parse(cls, text: str) -> ToolRule:
        """Read one entry; one that is malformed matches no tool."""
        match = re.fullmatch(r"\s*([^()\s]+)\s*(?:\((.*)\))?\s*", text, re.DOTALL)
        if match is None:
            return cls(text, "", None)
        specifier = (match[2] or "").strip()
        return cls(
            text.strip(), canonical_tool(match[1]), None if specifier in ("", "*") else specifier
        )

    def matches(self, tool: str, arguments: Mapping[str, Any], place: Place) -> bool:
        """Whether this rule allows *tool* with *arguments*."""
        if tool.startswith("mcp__"):
            server = mcp_names.server_of(tool, place.servers)
            return self.specifier is None and mcp_names.allows(self.tool, tool, server)
        if tool != self.tool:
            return False
        if self.specifier is None:
            return True
        if tool == "Bash":
            return _command_matches(str(arguments.get("command", "")), self.specifier)
        if tool in _PATH_TOOLS:
            path = arguments.get(_PATHS.get(tool, "file_path"))
            return isinstance(path, str) and _path_matches(path, self.specifier, place.cwd)
        if tool == "WebFetch" and self.specifier.startswith("domain:"):
            return _host_matches(str(arguments.get("url", "")), self.specifier[len("domain:") :])
        return False


def _command_matches(command: str, specifier: str) -> bool:
    """Whether *command* is one plain command that *specifier* means.

    Anything by which a shell makes more of it, such as ``;``, ``$`` or a redirection, is refused.
    """
    if re.search(r"[$`\n\r\\]", command):
        return False
    lexer = shlex.shlex(command, posix=True, punctuation_chars=True)
    lexer.commenters = ""
    try:
        words = list(lexer)
        wanted = shlex.split(re.sub(r"(?::| )\*$", "", specifier))
    except ValueError:
        return False
    if any(word and set(word) <= _SHELL_PUNCTUATION for word in words):
        return False
    if specifier.endswith((":*", " *")):
        return words[: len(wanted)] == wanted
    return words == wanted


def _path_matches(path: str, pattern: str, cwd: Path) -> bool:
    """Patterns as in gitignore: ``//x`` absolute, ``~/x`` in the home, otherwise from *cwd*."""
    if pattern.startswith("//"):
        base, rest = Path("/"), pattern[2:]
    elif pattern.startswith("~/"):
        base, rest = Path.home(), pattern[2:]
    else:
        base, rest = cwd, pattern.removeprefix("./").removeprefix("/")
    try:
        target = (cwd / Path(path).expanduser()).resolve()
        relative = target.relative_to(base.resolve()).as_posix()
    except (OSError, RuntimeError, ValueError):
        return False
    return re.fullmatch(_glob(rest), relative) is not None


def _glob(pattern: str) -> str:
    parts = re.split(r"(\*\*/|\*\*|\*|\?)", pattern)
    meanings = {"**/": r"(?:.*/)?", "**": r".*", "*": r"[^/]*", "?": r"[^/]"}
    return "".join(meanings.get(part) or re.escape(part) for part in parts)


def _host_matches(url: str, domain: str) -> bool:
    try:
        host = (urlsplit(url).hostname or "").lower()
    except ValueError:
        return False
    wanted = domain.strip().lower()
    if wanted.startswith("*."):
        return host.endswith(wanted[1:])
    return host == wanted
