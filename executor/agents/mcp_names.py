"""The names of MCP servers and their tools, and the rules that name them: as Claude Code has both.

Rules that allow mean less than rules that forbid (measured: ``docs/notes/claude-cli.md``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

_RULE: Final = re.compile(r"\s*([^()\s]+)\s*(?:\(\s*\*?\s*\))?\s*")


def full_name(*parts: str) -> str:
    """The name of a server, or of its tool, in requests, events and rules."""
    return "__".join(("mcp", *(re.sub(r"[^A-Za-z0-9_-]", "_", part) for part in parts)))


def server_of(tool: str, servers: Iterable[str]) -> str:
    """The full name of the server that the full name *tool* belongs to.

    One of *servers*, which are full names, too: a server may have ``__`` in its name. Of another
    one the name ends at the first.
    """
    known = (server for server in servers if tool.startswith(f"{server}__"))
    return max(known, key=len, default="__".join(tool.split("__", 2)[:2]))


def read_rules(texts: Iterable[str]) -> list[str]:
    """The names in entries of ``allowed_tools``; those that bound a tool's arguments are left out.

    Nothing here can tell whether they hold.
    """
    found = (_RULE.fullmatch(text) for text in texts)
    return [match[1] for match in found if match is not None]


def allows(rule: str, tool: str, server: str) -> bool:
    """Whether *rule* allows *tool* of *server*: ``mcp__a``, ``mcp__a__b``, ``mcp__a__read_*``.

    A ``*`` counts behind the server's whole name only.
    """
    return rule in (tool, server) or (rule.startswith(f"{server}__") and _covers(rule, tool))


def denies(rule: str, tool: str, server: str) -> bool:
    """Whether *rule* forbids *tool* of *server*: a ``*`` counts everywhere.

    ``mcp__a`` also stands for servers whose names go on with ``__``.
    """
    if rule in (tool, server) or _covers(rule, tool):
        return True
    return rule.count("__") == 1 and tool.startswith(f"{rule}__")


def _covers(pattern: str, tool: str) -> bool:
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), tool) is not None
