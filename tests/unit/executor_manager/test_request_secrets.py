"""What of a request is public, and what is not."""

from __future__ import annotations

import json

import pytest

from executor_manager.request_secrets import merge, split

REQUEST = {
    "prompt": "use the token wisely",
    "git_url": "https://ann:S1@example.org/p.git",
    "branch_name": "main",
    "git_token": "S2",
    "git_password": "S3",
    "auth_token": "S4",
    "user": {"user_name": "ann", "git_token": "S5"},
    "bot": [
        {
            "name": "b",
            "agent_config": {"env": {"model": "m", "api_key": "S6", "OTHER": "S7"}},
            "mcp_servers": {"m": {"headers": {"Authorization": "S8"}}},
        }
    ],
    "attachments": [{"filename": "f", "url": "https://example.org/f?sig=S9"}],
    "odd/name~x": {"password": "S10"},
    "mcp_config": {"mcpServers": {"m": {"args": ["S11"]}}},
    "variables": {"A": "S12"},
    "skills": {"s": {"url": "https://example.org/s?sig=S13"}},
}


def test_nothing_secret_is_left_in_the_public_part() -> None:
    public, secrets = split(REQUEST)
    for number in range(1, 14):
        assert f"S{number}" not in json.dumps(public)
        assert f"S{number}" in json.dumps(secrets)


def test_what_is_not_secret_stays_public() -> None:
    public, _ = split(REQUEST)
    assert public["prompt"] == "use the token wisely"
    assert public["git_url"] == "https://example.org/p.git"
    assert public["user"] == {"user_name": "ann"}
    assert public["bot"] == [{"name": "b", "agent_config": {}}]


@pytest.mark.parametrize(
    "request_",
    [
        REQUEST,
        {},
        {"bot": {"mcp_servers": [{"name": "x"}]}},
        {"git_url": "git@example.org:a/b.git", "git_token": None},
        {"git_url": "https://["},
    ],
)
def test_both_parts_together_are_the_request_again(request_: dict[str, object]) -> None:
    before = json.dumps(request_)
    public, secrets = split(request_)
    assert merge(public, secrets) == request_
    assert json.dumps(request_) == before
