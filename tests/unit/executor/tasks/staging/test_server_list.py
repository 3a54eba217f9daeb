from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from executor.tasks.staging.server_list import list_servers
from shared.protocol.execution import read_execution_request

SECRET = "s3cr3t"


def listed(session: Path, **servers: Any) -> Any:
    raw = {"task_id": 1, "subtask_id": 2, "prompt": "go", "mcp_servers": servers}
    list_servers(read_execution_request({**raw, "variables": {"KEY": SECRET}}), session)
    place = session / ".mcp-servers" / "servers.json"
    return json.loads(place.read_text())["servers"] if place.exists() else None


def test_a_list_says_where_servers_are_and_no_secret(tmp_path: Path) -> None:
    servers = listed(
        tmp_path,
        far={"type": "http", "url": f"https://u:{SECRET}@h:8/{SECRET}?k={SECRET}",
             "headers": {"Authorization": "${KEY}"}},
        near={"command": "/usr/bin/node", "args": [SECRET], "env": {"A": SECRET}},
    )  # fmt: skip

    assert servers == {
        "far": {"type": "http", "at": "https://h:8"},
        "near": {"type": "stdio", "command": "node"},
    }


def test_odd_servers_are_listed_all_the_same(tmp_path: Path) -> None:
    servers = listed(tmp_path, a={"type": "http", "url": "http://[::1/"}, b={"url": "h"})

    assert servers == {"a": {"type": "http", "at": None}, "b": {"type": "http", "at": None}}


def test_the_list_goes_when_a_run_has_no_servers(tmp_path: Path) -> None:
    listed(tmp_path, a={"command": "x"})

    assert listed(tmp_path) is None
    assert list(tmp_path.iterdir()) == []
