from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from executor.tasks.repository.credentials import Credentials, credentials_of, install_askpass
from shared.errors import Refusal
from shared.protocol.execution import read_execution_request
from shared.protocol.repository import Repository


def names_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def credentials(url: str, **fields: Any) -> Credentials | None:
    raw = {"task_id": 1, "subtask_id": 1, "prompt": "go", "git_url": url, **fields}
    return credentials_of(read_execution_request(raw), Repository.parse(url))


@pytest.mark.parametrize(
    ("url", "fields", "expected"),
    [
        ("https://github.com/a/b", {"git_token": "t"}, "x-access-token"),
        ("https://github.corp.example/a/b", {"git_token": "t"}, "x-access-token"),
        ("https://gitlab.com/a/b", {"git_token": "t", "user": {"git_login": "ada"}}, "oauth2"),
        ("https://bitbucket.org/a/b", {"git_token": "t"}, "x-token-auth"),
        ("https://gitee.com/a/b", {"git_token": "t", "user": {"git_login": "ada"}}, "ada"),
        ("https://gitee.com/a/b", {"git_token": "t"}, "oauth2"),
        ("https://gerrit.example/a/b", {"git_username": "ada", "git_password": "p"}, "ada"),
        ("https://github.com/a/b", {"git_token": "t", "git_username": "me"}, "me"),
        ("https://ada@example.org/a/b", {"git_token": "t"}, "ada"),
        (
            "https://gitlab.com/a/b",
            {"git_password": "p", "user": {"git_login": "ada"}},
            "ada",
        ),
    ],
)
def test_the_user_name_fits_the_host_and_what_the_request_says(
    url: str, fields: dict[str, Any], expected: str
) -> None:
    found = credentials(url, **fields)

    assert found is not None
    assert found.username == expected


def test_the_requests_own_token_comes_before_the_users() -> None:
    found = credentials("https://h/x", git_token="run", user={"git_token": "user"})

    assert found is not None
    assert found.password == "run"
    assert "run" not in repr(found)


@pytest.mark.parametrize("url", ["git@h:a/b", "ssh://git@h/a/b", "file:///srv/x"])
def test_only_http_knows_tokens(url: str) -> None:
    assert credentials(url, git_token="t") is None


def test_without_a_secret_there_are_no_credentials() -> None:
    assert credentials("https://ada@h/x", git_username="ada", git_token=" ") is None


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"git_token": "a\nb"}, "git_token"),
        ({"git_token": "a\0b"}, "git_token"),
        ({"git_token": "s3cr3t", "git_username": "a\nb"}, "git_username"),
        ({"user": {"git_token": "a\x1bb"}}, "user.git_token"),
        ({"git_token": "a\ud800"}, "git_token"),
    ],
)
def test_what_no_environment_can_carry_is_refused_by_name(
    fields: dict[str, Any], place: str
) -> None:
    with pytest.raises(Refusal, match=place) as raised:
        credentials("https://h/x", **fields)

    assert "s3cr3t" not in str(raised.value)


@pytest.fixture
def askpass(tmp_path: Path) -> Path:
    return install_askpass(tmp_path)


def ask(askpass: Path, found: Credentials, url: str, prompt: str) -> str | None:
    env = {**os.environ, **found.environment(Repository.parse(url), askpass)}
    done = subprocess.run([askpass, prompt], env=env, capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else None


@pytest.mark.parametrize(
    ("url", "prompt", "answer"),
    [
        ("https://h/x", "Username for 'https://h': ", "a@b\n"),
        ("https://h/x", "Password for 'https://a@b@h': ", "p %s\\n$x`y`\n"),
        ("https://h/x", "Password for 'https://a%40b@h': ", "p %s\\n$x`y`\n"),
        ("https://h:8443/x", "Username for 'https://h:8443': ", "a@b\n"),
        ("http://h/x", "Username for 'https://h': ", "a@b\n"),
        ("https://h/x", "Username for 'http://h': ", None),
        ("https://h/x", "Username for 'https://h:8443': ", None),
        ("http://h:80/x", "Username for 'https://h:80': ", None),
        ("https://h/x", "Password for 'https://a%40b@evil': ", None),
        ("https://h/x", "Password for 'https://a%40b@evil.h': ", None),
        ("https://h/x", "Password for 'https://evil/@h': ", None),
        ("https://h/x", "Password for 'https://*@h': ", None),
        ("https://h/x", "Are you sure you want to continue connecting? ", None),
        ("https://h/x", "", None),
    ],
)
def test_only_the_host_that_was_asked_for_is_answered(
    askpass: Path, url: str, prompt: str, answer: str | None
) -> None:
    assert ask(askpass, Credentials("a@b", "p %s\\n$x`y`"), url, prompt) == answer


def test_the_script_is_private_and_written_once(askpass: Path, tmp_path: Path) -> None:
    assert install_askpass(tmp_path) == askpass
    assert stat.S_IMODE(askpass.stat().st_mode) == 0o700
    assert names_in(tmp_path) == [askpass.name]
