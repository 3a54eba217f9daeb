"""A small MCP server over stdio, with one tool: ``run`` evaluates a shell command.

Started as a program of its own, so it uses the standard library only.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

_TOOL = {
    "name": "run",
    "description": "Runs a shell command",
    "inputSchema": {
        "type": "object",
        "properties": {"command": {"type": "string"}},
        "required": ["command"],
    },
}


def answer(method: str, parameters: dict[str, Any]) -> dict[str, Any] | None:
    """What is answered to a request; ``None``: there is no such method."""
    match method:
        case "initialize":
            return {
                "protocolVersion": parameters["protocolVersion"],
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "fake", "version": "1"},
            }
        case "tools/list":
            return {"tools": [_TOOL]}
        case "tools/call":
            done = subprocess.run(
                ["/bin/sh", "-c", parameters["arguments"]["command"]],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
                timeout=30,
            )
            text = f"{done.stdout}{done.stderr}exit status {done.returncode}"
            return {"content": [{"type": "text", "text": text}]}
        case "ping":
            return {}
        case _:
            return None


def main() -> None:
    for line in sys.stdin:
        message = json.loads(line)
        if "id" not in message:
            continue
        result = answer(message["method"], message.get("params") or {})
        reply: dict[str, Any] = {"jsonrpc": "2.0", "id": message["id"]}
        if result is None:
            reply["error"] = {"code": -32601, "message": "method not found"}
        else:
            reply["result"] = result
        sys.stdout.write(f"{json.dumps(reply)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
