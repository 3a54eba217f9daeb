from __future__ import annotations

import json

from shared.protocol.dispatch import dispatch_payload
from shared.protocol.execution import read_execution_request

EVERYTHING = {
    "task_id": 0,
    "subtask_id": "run-1",
    "attempt": 2,
    "prompt": [
        {"type": "text", "text": "look"},
        {"type": "image", "source": {"type": "base64", "data": "aGk="}},
    ],
    "task_title": "Title",
    "bot": [
        {
            "name": "bot",
            "shell_type": "ClaudeCode",
            "agent_config": {"env": {"api_key": "sk-request", "X": 1}},
            "mcp_servers": {"docs": {"type": "http", "url": "https://mcp.example/"}},
            "allowed_tools": ["Bash"],
            "permission_mode": "plan",
        }
    ],
    "git_url": "https://git.example/a/b.git",
    "git_token": "git-token",
    "git_password": "git-password",
    "user": {"user_name": "u", "git_token": "users-token"},
    "auth_token": "backend-token",
    "attachments": [{"filename": "a.txt", "content_base64": "aGk="}],
    "timeout_seconds": 5,
    "isolation": "container",
    "variables": {"NAME": "value"},
    "new_session": True,
}


def test_a_reader_of_the_payload_makes_the_same_request_of_it() -> None:
    request = read_execution_request(EVERYTHING)
    payload = json.loads(json.dumps(dispatch_payload(request)))
    assert read_execution_request(payload) == request
    assert set(request.secrets) <= set(
        json.dumps(payload).replace('"', " ").replace(",", " ").split()
    )


def test_what_was_not_said_is_not_said() -> None:
    request = read_execution_request({"task_id": 1, "subtask_id": 2, "prompt": "go"})
    payload = dispatch_payload(request)
    assert "model" not in payload
    assert "git_url" not in payload
    assert read_execution_request(payload) == request
