"""Every credential of a request is known, wherever a request can put one."""

from __future__ import annotations

import base64

import pytest

from shared.protocol.credentials import argument_credentials, named_credentials, url_credentials
from shared.protocol.execution import ExecutionRequest


def request(**fields: object) -> ExecutionRequest:
    return ExecutionRequest.model_validate(
        {"task_id": 1, "subtask_id": 1, "prompt": "hi", **fields}
    )


def test_every_place_of_a_request_that_can_hold_a_credential_is_known() -> None:
    server = {
        "command": "server",
        "args": ["--api-key", "mcp-argument", "--verbose"],
        "env": {"SERVICE_TOKEN": "mcp-variable"},
        "headers": {"Authorization": "Bearer mcp-header"},
        "url": "https://mcp.example/sse?api_key=mcp-query",
    }
    found = request(
        git_url="https://me:url-password@example.org/a/b.git",
        git_token="git-token-value",
        git_password="git-password-value",
        user={"git_token": "user-git-token"},
        auth_token="download-token",
        backend_url="https://u:backend-password@example.org",
        attachments=[{"filename": "a", "url": "https://s.example/a?X-Amz-Signature=signed-value"}],
        bot=[
            {
                "agent_config": {"env": {"api_key": "api-key-value", "model": "some-model"}},
                "mcp_servers": {"one": server},
            },
            {"agent_config": {"env": {"auth_token": "second-bot-token"}}},
        ],
    ).secrets
    assert set(found) == {
        "url-password", "git-token-value", "git-password-value", "user-git-token",
        "download-token", "backend-password", "signed-value", "api-key-value",
        "second-bot-token", "mcp-argument", "mcp-variable", "Bearer mcp-header", "mcp-header",
        "mcp-query",
    }  # fmt: skip


def test_the_login_of_a_repositorys_address_is_a_token_when_no_other_is_given() -> None:
    url = "https://a-token-or-a-name@example.org/a/b.git"
    assert request(git_url=url).secrets == ["a-token-or-a-name"]
    assert request(git_url=url, user={"git_token": "the-token"}).secrets == ["the-token"]
    assert request(git_url="ssh://a-name@example.org/a/b.git").secrets == []


@pytest.mark.parametrize(
    ("name", "value", "found"),
    [
        ("X-Api-Key", "abc-def", {"abc-def"}),
        ("authorization", "token abc-def", {"token abc-def", "abc-def"}),
        (
            "ANTHROPIC_CUSTOM_HEADERS",
            "X-Team: a-team\nX-Api-Key: abc\r\nAuthorization: Bearer def",
            {"abc", "Bearer def", "def"},
        ),
        ("OTEL_EXPORTER_OTLP_HEADERS", "team=a-team,api-key=abc==", {"abc=="}),
        ("Cookie", "session=abc; csrf=def", {"session=abc; csrf=def", "abc", "def"}),
        ("DATABASE_URL", "postgres://me:p%40ss@host/db", {"p%40ss", "p@ss"}),
        ("GITHUB_PAT", "abc-def", {"abc-def"}),
        ("DB_PASS", "abc-def", {"abc-def"}),
        ("SENTRY_DSN", "https://abc@host/1", {"https://abc@host/1"}),
        ("SLACK_WEBHOOK", "https://host/abc", {"https://host/abc"}),
        ("DB_CONNECTION_STRING", "Pwd=abc", {"Pwd=abc"}),
        ("PASSIVE_MODE", "enabled", set()),
        ("PASSWORD", 12345678, {"12345678"}),
        ("GIT_AUTHOR_NAME", "Somebody", set()),
        ("CLAUDE_CODE_MAX_OUTPUT_TOKENS", "128000", set()),
        ("PATH", "/usr/bin", set()),
        ("USE_TOKEN", True, set()),
    ],
)
def test_variables_and_headers_are_judged_by_name(
    name: str, value: object, found: set[str]
) -> None:
    assert set(named_credentials({name: value})) == found


def test_a_basic_login_gives_its_password_away() -> None:
    encoded = base64.b64encode(b"me:the-password").decode()
    assert "the-password" in set(named_credentials({"Authorization": f"Basic {encoded}"}))
    assert set(named_credentials({"Authorization": "Basic no-base64"})) == {
        "Basic no-base64",
        "no-base64",
    }


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["--token", "abc"], ["abc"]),
        (["--api-key=abc"], ["abc"]),
        (["-e", "API_KEY=abc"], ["abc"]),
        (["--url", "https://h/x?token=abc"], ["abc"]),
        (["--verbose", "abc", 7, "x"], []),
    ],
)
def test_command_lines_are_read_like_a_program_would(
    arguments: list[object], found: list[str]
) -> None:
    assert list(argument_credentials(arguments)) == found


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("https://ghp_x@host/a", ["ghp_x"]),
        ("ssh://git@host/a", []),
        ("https://host/a?page=2", []),
        ("https://[broken", []),
        ("no url: at all", []),
    ],
)
def test_urls_give_their_login_and_their_signature(url: str, found: list[str]) -> None:
    assert list(url_credentials(url)) == found
