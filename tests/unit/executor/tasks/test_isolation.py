"""Where runs may happen, and what a sandboxed one must not see."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from executor.tasks.isolation import IsolationRules, Walls
from shared.errors import Refusal
from shared.protocol.execution import Isolation
from tests.fakes.agent_jobs import make_request

NONE, SANDBOX, CONTAINER = Isolation.NONE, Isolation.SANDBOX, Isolation.CONTAINER
MISSING = "bwrap not installed"


@pytest.mark.parametrize(
    ("least", "problem", "available", "levels"),
    [
        (NONE, MISSING, [NONE], {None: NONE, NONE: NONE, SANDBOX: None, CONTAINER: None}),
        (NONE, None, [NONE, SANDBOX], {None: NONE, NONE: NONE, SANDBOX: SANDBOX, CONTAINER: None}),
        (SANDBOX, None, [SANDBOX], {None: SANDBOX, NONE: SANDBOX, CONTAINER: None}),
        (SANDBOX, MISSING, [], {None: None, NONE: None, SANDBOX: None, CONTAINER: None}),
    ],
)
def test_requests_strengthen_and_never_weaken(
    least: Isolation,
    problem: str | None,
    available: list[Isolation],
    levels: dict[Isolation | None, Isolation | None],
) -> None:
    rules = IsolationRules(least, problem)
    assert rules.available == available
    for asked, level in levels.items():
        request = make_request(isolation=asked)
        if level is not None:
            assert rules.level(request) is level
            continue
        with pytest.raises(Refusal) as refused:
            rules.level(request)
        assert refused.value.error_code == "isolation_unavailable"


@pytest.mark.parametrize(
    ("server", "refused"),
    [
        ({"command": "sh"}, False),
        ({"type": "stdio", "command": "sh"}, False),
        ({"type": "http", "url": "https://x"}, False),
        ({"type": "sse", "url": "https://x"}, False),
        ({"type": "http", "url": "https://x", "command": "sh"}, True),
        ({"type": "http", "url": "https://x", "headersHelper": "sh"}, True),
        ({"command": "sh", "headersHelper": "sh"}, True),
        ({"url": "https://x"}, False),
        ({"type": "ws", "url": "wss://x"}, True),
    ],
)
def test_an_mcp_server_that_cannot_be_kept_inside_is_refused_in_a_sandbox(
    server: dict[str, Any], refused: bool
) -> None:
    servers = {"mcp_servers": {"files": server}}
    for request in (make_request(bot=[servers]), make_request(**servers)):
        assert IsolationRules(NONE, None).level(request) is NONE
        rules = IsolationRules(SANDBOX, None, walled_servers=True)
        if refused:
            with pytest.raises(Refusal, match="files"):
                rules.level(request)
        else:
            assert rules.level(request) is SANDBOX


def test_an_mcp_server_that_is_a_command_is_refused_where_it_can_have_no_walls() -> None:
    request = make_request(bot=[{"mcp_servers": {"files": {"command": "sh"}}}])
    with pytest.raises(Refusal, match="files"):
        IsolationRules(SANDBOX, None, walled_servers=False).level(request)


def test_credentials_and_the_executors_places_are_hidden_with_what_links_lead_to(
    tmp_path: Path,
) -> None:
    user, home, elsewhere = tmp_path / "user", tmp_path / "executor", tmp_path / "elsewhere"
    elsewhere.mkdir()
    (user / ".claude" / "skills").mkdir(parents=True)
    (user / ".ssh").symlink_to(elsewhere)
    session = home / "workspace" / "1"
    environ = {"HOME": str(user), "KUBECONFIG": "/k/a:/k/b", "AWS_CONFIG_FILE": "/aws"}
    sandbox = Walls(home, (tmp_path / "work", tmp_path / "logs"), environ).around(session, ("a.b",))
    names = [".ssh", ".aws", ".netrc", ".git-credentials", ".config/gh", ".docker", ".kube"]
    names += [".npmrc", ".pypirc", ".gnupg", ".claude", ".config/git/credentials"]
    expected = {home, tmp_path / "work", tmp_path / "logs", elsewhere, *(user / n for n in names)}
    expected |= {Path("/k/a"), Path("/k/b"), Path("/aws")}
    assert expected <= set(sandbox.hidden)
    assert sandbox.writable == (session,)
    assert sandbox.readable == (user / ".claude" / "skills",)
    assert sandbox.hosts == ("a.b",)


def test_the_authorities_that_the_executor_trusts_can_be_read_wherever_they_lie(
    tmp_path: Path,
) -> None:
    home = tmp_path / "executor"
    home.mkdir()
    (tmp_path / "ca.pem").touch()
    (home / "ca.pem").symlink_to(tmp_path / "ca.pem")
    environ = {"HOME": str(tmp_path), "SSL_CERT_FILE": str(home / "ca.pem")}
    sandbox = Walls(home, (), environ).around(home / "workspace" / "1", ())
    assert sandbox.readable == (home / "ca.pem", tmp_path / "ca.pem")


def test_executors_with_different_homes_share_no_temporary_folder(tmp_path: Path) -> None:
    first, second = (
        Walls(tmp_path / name, (), {}).around(tmp_path, ()).temporary for name in ("a", "b")
    )
    assert first != second
    # The CLI leaves it unused when it is longer, and each session's folder adds nine.
    assert len(str(first)) <= 21
