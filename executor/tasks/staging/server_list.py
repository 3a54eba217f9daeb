"""``{session}/.mcp-servers/servers.json``: which MCP servers a run has, for whoever looks there.

The agent can read it, and so can every command that it runs: it says where a server is, and none
of its headers, variables or arguments. What the agent's process itself reads lies elsewhere, in a
private file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from executor.session_places import SERVERS
from executor.tasks.staging.folders import StagedFolder, remove_entry
from shared.protocol.execution import ExecutionRequest


def list_servers(request: ExecutionRequest, session_dir: Path) -> None:
    """Write the list of the run's servers, or remove it when there are none. Blocks."""
    servers = request.servers
    if not servers:
        remove_entry(session_dir, SERVERS)
        return
    listed = {name: _described(server) for name, server in sorted(servers.items())}
    folder = StagedFolder(session_dir, SERVERS)
    try:
        folder.open()
        with folder.create("servers.json") as file:
            file.write(json.dumps({"servers": listed}, indent=2, ensure_ascii=False).encode())
        folder.put()
    finally:
        folder.discard()


def _described(server: Mapping[str, Any]) -> dict[str, Any]:
    kind = str(server.get("type", "stdio"))
    if isinstance(url := server.get("url"), str):
        return {"type": kind, "at": _origin(url)}
    return {"type": kind, "command": Path(server["command"]).name}


def _origin(url: str) -> str | None:
    """Scheme, host and port: a path may hold a key as well."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port is not None else ""
    except ValueError:
        return None
    return f"{parts.scheme}://{parts.hostname}{port}" if parts.hostname else None
