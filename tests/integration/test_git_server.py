"""Clones over HTTP from a real git server that asks for a login, hangs, refuses and cuts."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from executor.tasks.workspace import Workspaces
from shared.errors import RunError
from shared.protocol.execution import ExecutionRequest, read_execution_request
from shared.status import ErrorCode
from tests.fakes.git_server import GitServer, git, make_repository, serving

TOKEN = "s3cr3t-t0ken%/@value"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[GitServer]:
    source = make_repository(tmp_path / "source", {"calc.py": "x = 1\n"})
    (tmp_path / "served").mkdir()
    git(tmp_path, "clone", "--quiet", "--bare", str(source), "served/calc.git")
    async with serving(tmp_path / "served") as running:
        yield running


@pytest.fixture
def global_config(tmp_path: Path) -> Path:
    return tmp_path / "gitconfig"


@pytest.fixture
def workspaces(tmp_path: Path, global_config: Path) -> Workspaces:
    return make_workspaces(tmp_path, global_config)


def make_workspaces(tmp_path: Path, global_config: Path, **changes: Any) -> Workspaces:
    arguments: dict[str, Any] = {
        "private_dir": tmp_path / "private",
        "clone_timeout_s": 30,
        "allow_local_repositories": False,
        "environ": {
            **os.environ,
            "GIT_CONFIG_GLOBAL": str(global_config),
            "WEGENT_AUTH_TOKEN": "the-executors-own",
        },
        "backend_url": None,
    }
    return Workspaces(tmp_path / "workspace", **{**arguments, **changes})


def of(url: str, **fields: Any) -> ExecutionRequest:
    return read_execution_request(
        {"task_id": 7, "subtask_id": 1, "prompt": "go", "git_url": url, **fields}
    )


def names_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def everything_below(directory: Path) -> bytes:
    return b"".join(
        path.read_bytes() for path in directory.rglob("*") if path.is_file() and path.stat().st_size
    )


async def test_a_public_repository_is_cloned_without_credentials(
    workspaces: Workspaces, server: GitServer
) -> None:
    workspace = await workspaces.prepare(of(server.url("calc")))

    assert (workspace.cwd / "calc.py").exists()
    assert set(server.logins) == {None}


@pytest.mark.parametrize(
    ("fields", "username"),
    [
        ({"git_token": TOKEN, "git_username": "ada@corp"}, "ada@corp"),
        ({"git_token": TOKEN}, "oauth2"),
        ({"git_token": TOKEN, "user": {"git_login": "ada"}}, "ada"),
        ({"git_username": "ada", "git_password": TOKEN}, "ada"),
        ({"user": {"git_login": "ada", "git_token": TOKEN}}, "ada"),
    ],
)
async def test_a_private_repository_is_cloned_with_what_the_request_brings(
    workspaces: Workspaces, server: GitServer, fields: dict[str, Any], username: str
) -> None:
    server.login = (username, TOKEN)

    workspace = await workspaces.prepare(of(server.url("calc"), **fields))

    assert (workspace.cwd / "calc.py").exists()


async def test_a_token_in_the_address_is_used_and_taken_out_of_it(
    workspaces: Workspaces, server: GitServer
) -> None:
    server.login = ("ada", "t0ken-in-address")
    url = server.url("calc").replace("//", "//ada:t0ken-in-address@")

    workspace = await workspaces.prepare(of(url))

    assert workspace.repository == server.url("calc")
    assert git(workspace.cwd, "remote", "get-url", "origin") == server.url("calc")


async def test_a_token_reaches_no_file_no_command_line_and_no_log(
    workspaces: Workspaces,
    server: GitServer,
    tmp_path: Path,
    global_config: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    helper_log = tmp_path / "helper.log"
    helper = f'"!f() {{ echo called >> {helper_log}; cat >> {helper_log}; }}; f"'
    origin = server.url("calc").removesuffix("/calc.git")
    global_config.write_text(
        f'[credential]\n\thelper = {helper}\n[credential "{origin}"]\n\thelper = {helper}\n'
    )
    before = global_config.read_bytes()
    server.login = ("ada", TOKEN)
    command_lines: list[str] = []
    environments: list[dict[str, str]] = []
    programs: set[str] = set()

    def look() -> None:
        for process in psutil.Process().children(recursive=True):
            try:
                command_lines.append(" ".join(process.cmdline()))
                programs.add(process.name())
                environments.append(process.environ())
            except psutil.Error:
                continue

    server.on_request = look
    request = of(server.url("calc"), git_token=TOKEN, git_username="ada")
    workspace = await workspaces.prepare(request)
    server.on_request = lambda: None
    refetched = await workspaces.prepare(request, workspace.cwd)

    assert refetched.warnings == ()
    assert (workspace.cwd / "calc.py").exists()
    assert "git-remote-http" in programs  # the clone was seen in flight
    assert not [line for line in command_lines if "s3cr3t" in line]
    assert not [e for e in environments if "WEGENT_AUTH_TOKEN" in e]
    for place in ("workspace", "private", "served"):
        assert b"s3cr3t" not in everything_below(tmp_path / place)
    assert "s3cr3t" not in caplog.text
    assert "s3cr3t" not in repr(request) + repr(workspace)
    assert not helper_log.exists()
    assert global_config.read_bytes() == before


async def test_without_a_token_the_users_own_credential_helper_may_answer(
    workspaces: Workspaces, server: GitServer, global_config: Path
) -> None:
    global_config.write_text(
        '[credential]\n\thelper = "!f() { echo username=owner; echo password=own; }; f"\n'
    )
    server.login = ("owner", "own")

    workspace = await workspaces.prepare(of(server.url("calc")))

    assert (workspace.cwd / "calc.py").exists()


async def test_a_token_is_not_told_to_the_host_of_a_redirect(
    workspaces: Workspaces, server: GitServer, tmp_path: Path
) -> None:
    async with serving(tmp_path / "served") as elsewhere:
        elsewhere.login = ("ada", TOKEN)
        server.fault = f"http://127.0.0.1:{elsewhere.port}"

        with pytest.raises(RunError) as raised:
            await workspaces.prepare(of(server.url("calc"), git_token=TOKEN, git_username="ada"))

        assert raised.value.error_code is ErrorCode.CLONE_FAILED
        assert elsewhere.logins
        assert set(elsewhere.logins) == {None}


async def test_a_token_is_not_told_to_the_proxy_that_an_agent_has_configured(
    workspaces: Workspaces, server: GitServer, tmp_path: Path
) -> None:
    server.login = ("ada", TOKEN)
    request = of(server.url("calc"), git_token=TOKEN, git_username="ada")
    workspace = await workspaces.prepare(request)
    async with serving(tmp_path / "served") as trap:
        trap.login = ("ada", TOKEN)
        url = f"http://127.0.0.1:{trap.port}"
        git(workspace.cwd, "config", "http.proxy", url)
        git(workspace.cwd, "config", f"url.{url}/.insteadOf", server.url("")[: -len(".git")])

        again = await workspaces.prepare(request, workspace.cwd)

        assert again.warnings == ()
        assert trap.logins == []


@pytest.mark.parametrize(
    ("login", "fault", "words"),
    [
        (("ada", "other"), None, "git_token"),
        (None, 500, "500"),
        (None, 404, "not found"),
        (None, "cut", "cannot clone"),
    ],
)
@pytest.mark.parametrize("fields", [{}, {"git_token": TOKEN}])
async def test_a_server_that_refuses_fails_the_run_with_a_reason_and_leaves_nothing(
    workspaces: Workspaces,
    server: GitServer,
    tmp_path: Path,
    login: tuple[str, str] | None,
    fault: str | int | None,
    words: str,
    fields: dict[str, Any],
) -> None:
    server.login, server.fault = login, fault

    with pytest.raises(RunError, match=words) as raised:
        await workspaces.prepare(of(server.url("calc"), **fields))

    assert raised.value.error_code is ErrorCode.CLONE_FAILED
    assert server.url("calc") in str(raised.value)
    assert "s3cr3t" not in f"{raised.value} {raised.value.details}"
    assert names_in(tmp_path / "workspace" / "7") == []


async def test_a_clone_that_hangs_ends_by_its_timeout_and_leaves_nothing(
    tmp_path: Path, global_config: Path, server: GitServer
) -> None:
    workspaces = make_workspaces(tmp_path, global_config, clone_timeout_s=0.3)
    server.fault = "hang"

    with pytest.raises(RunError, match=r"longer than 0\.3 s") as raised:
        await workspaces.prepare(of(server.url("calc")))

    assert raised.value.error_code is ErrorCode.CLONE_FAILED
    assert names_in(tmp_path / "workspace" / "7") == []
    assert psutil.Process().children(recursive=True) == []


async def test_a_cancelled_clone_leaves_neither_process_nor_folder(
    workspaces: Workspaces, server: GitServer, tmp_path: Path
) -> None:
    server.fault = "hang"
    preparing = asyncio.create_task(workspaces.prepare(of(server.url("calc"))))
    async with asyncio.timeout(50):
        await server.reached.wait()

    preparing.cancel()
    preparing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await preparing

    assert names_in(tmp_path / "workspace" / "7") == []
    assert psutil.Process().children(recursive=True) == []


async def test_a_fetch_that_hangs_is_a_warning_and_the_checkout_stays_usable(
    tmp_path: Path, global_config: Path, server: GitServer
) -> None:
    first = await make_workspaces(tmp_path, global_config).prepare(of(server.url("calc")))
    server.fault = "hang"
    workspaces = make_workspaces(tmp_path, global_config, clone_timeout_s=0.3)

    second = await workspaces.prepare(of(server.url("calc")), first.cwd)

    assert "longer than" in second.warnings[0]
    assert not list((second.cwd / ".git").rglob("*.lock"))


async def test_two_sessions_clone_at_the_same_time(
    workspaces: Workspaces, server: GitServer
) -> None:
    server.login = ("oauth2", TOKEN)
    requests = [of(server.url("calc"), task_id=number, git_token=TOKEN) for number in range(3)]

    prepared = await asyncio.gather(*(workspaces.prepare(request) for request in requests))

    assert len({workspace.cwd for workspace in prepared}) == 3
