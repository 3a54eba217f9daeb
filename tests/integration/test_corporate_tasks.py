"""What tasks reach in a company's network: repositories, attachments, the API, allowed hosts.

The proxy alone knows the way to other machines, so what arrives has come through it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from executor.tasks.staging.attachments import Attachments
from executor.tasks.staging.fetching import Fetcher
from executor.tasks.workspace import Workspaces
from scripts.scripted_model import ScriptedModel
from shared.errors import RunError
from shared.protocol.execution import ExecutionRequest, read_execution_request
from tests.fakes.agent_jobs import JobMaker, opened, take_turn
from tests.fakes.authority import Authority, behind_tls
from tests.fakes.git_server import git, make_repository, serving
from tests.fakes.house import bash
from tests.fakes.http_proxy import ENCODED, HttpProxy
from tests.fakes.model import scenario, step, text_step

# --- Repositories ---


def workspaces(tmp_path: Path, environ: dict[str, str]) -> Workspaces:
    return Workspaces(
        tmp_path / "workspace",
        private_dir=tmp_path / "private",
        clone_timeout_s=30,
        allow_local_repositories=False,
        environ={**os.environ, **environ},
        backend_url=None,
    )


def of(url: str, **fields: Any) -> ExecutionRequest:
    return read_execution_request(
        {"task_id": 7, "subtask_id": 1, "prompt": "go", "git_url": url, **fields}
    )


@pytest.fixture
async def git_port(tmp_path: Path) -> AsyncIterator[int]:
    source = make_repository(tmp_path / "source", {"calc.py": "x = 1\n"})
    (tmp_path / "served").mkdir()
    git(tmp_path, "clone", "--quiet", "--bare", str(source), "served/calc.git")
    async with serving(tmp_path / "served") as server:
        server.login = ("ada", "t0ken")
        yield server.port


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_repository_is_cloned_and_fetched_through_the_proxy(
    tmp_path: Path, git_port: int, authority: Authority, proxy: HttpProxy, scheme: str
) -> None:
    # Capitals only, which git's library does not read for http.
    environ = {
        f"{scheme.upper()}_PROXY": proxy.url(ENCODED),
        "SSL_CERT_FILE": str(authority.file),
    }
    async with behind_tls(git_port, authority, "git.corp.test") as secure:
        base = secure if scheme == "https" else f"http://git.corp.test:{git_port}"
        ours = workspaces(tmp_path, environ)
        wanted = of(f"{base}/calc.git", git_token="t0ken", git_username="ada")
        workspace = await ours.prepare(wanted)
        again = await ours.prepare(wanted, workspace.cwd)

    assert (workspace.cwd / "calc.py").exists()
    assert again.warnings == ()
    assert {request.split()[0] for request in proxy.seen} <= {"CONNECT", "GET", "POST"}
    assert len(proxy.seen) >= 2


async def test_a_repository_that_no_proxy_names_is_cloned_directly(
    tmp_path: Path, git_port: int, authority: Authority, proxy: HttpProxy
) -> None:
    environ = {
        "HTTPS_PROXY": proxy.url(ENCODED),
        "NO_PROXY": "*.example.org, 127.0.0.1",
        "SSL_CERT_FILE": str(authority.file),
    }
    async with behind_tls(git_port, authority, "127.0.0.1") as url:
        wanted = of(f"{url}/calc.git", git_token="t0ken", git_username="ada")
        workspace = await workspaces(tmp_path, environ).prepare(wanted)
    assert (workspace.cwd / "calc.py").exists()
    assert proxy.seen == proxy.turned_away == []


async def test_git_trusts_a_directory_of_authorities(
    tmp_path: Path, git_port: int, authority: Authority
) -> None:
    async with behind_tls(git_port, authority, "127.0.0.1") as url:
        ours = workspaces(tmp_path, {"SSL_CERT_DIR": str(authority.directory())})
        workspace = await ours.prepare(of(f"{url}/calc.git", git_token="t0ken", git_username="ada"))
    assert (workspace.cwd / "calc.py").exists()


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_clone_that_the_proxy_does_not_let_through_says_what_to_do(
    tmp_path: Path, proxy: HttpProxy, scheme: str
) -> None:
    ours = workspaces(tmp_path, {"ALL_PROXY": proxy.url("ada:wr0ng")})
    with pytest.raises(RunError, match="put the proxy's user and password into") as caught:
        await ours.prepare(of(f"{scheme}://git.corp.test/calc.git"))
    assert "wr0ng" not in f"{caught.value} {caught.value.details}"


async def test_a_clone_from_a_host_that_the_proxy_refuses_says_whom_to_ask(
    tmp_path: Path, proxy: HttpProxy
) -> None:
    proxy.refuses = 403
    ours = workspaces(tmp_path, {"HTTPS_PROXY": proxy.url()})
    with pytest.raises(RunError, match="ask whoever runs the proxy to allow this host"):
        await ours.prepare(of("https://git.corp.test/calc.git"))


async def test_a_clone_from_an_unknown_authority_says_what_to_do(
    tmp_path: Path, git_port: int, authority: Authority
) -> None:
    async with behind_tls(git_port, authority, "127.0.0.1") as url:
        with pytest.raises(RunError, match=r"certificate.*set SSL_CERT_FILE for the executor"):
            await workspaces(tmp_path, {}).prepare(of(f"{url}/calc.git"))


# --- Attachments ---


@pytest.fixture
async def file_port() -> AsyncIterator[int]:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(text="content")

    app = web.Application()
    app.router.add_get("/file", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield runner.addresses[0][1]
    await runner.cleanup()


async def fetched(url: str, session: Path, environ: dict[str, str]) -> str:
    session.mkdir()
    wanted = read_execution_request(
        {
            "task_id": 7,
            "subtask_id": 1,
            "prompt": "go",
            "attachments": [{"filename": "a", "url": url}],
        }
    )
    attachments = Attachments(Fetcher(backend_url=None, environ=environ))
    (path,) = await attachments.place(wanted, session)
    return path.read_text()


async def test_an_attachment_is_fetched_through_the_proxy(
    tmp_path: Path, file_port: int, authority: Authority, proxy: HttpProxy
) -> None:
    environ = {"https_proxy": proxy.url(ENCODED), "SSL_CERT_FILE": str(authority.file)}
    async with behind_tls(file_port, authority, "files.corp.test") as url:
        assert await fetched(f"{url}/file", tmp_path / "7", environ) == "content"
    assert len(proxy.seen) == 1


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://files.corp.test:1/file?signature=s3cr3t", "HTTP 407.*user and password"),
        ("https://files.corp.test:1/file?signature=s3cr3t", "HTTP 407.*user and password"),
    ],
)
async def test_an_attachment_that_the_proxy_does_not_let_through_says_what_to_do(
    tmp_path: Path, proxy: HttpProxy, url: str, says: str
) -> None:
    with pytest.raises(RunError, match=says) as caught:
        await fetched(url, tmp_path / "7", {"ALL_PROXY": proxy.url()})
    assert "s3cr3t" not in str(caught.value)


async def test_an_attachment_behind_an_unusable_proxy_fails_alone(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="ALL_PROXY names a socks5 proxy"):
        await fetched("https://h/file", tmp_path / "7", {"ALL_PROXY": "socks5://p:1"})


# --- The API, and what agents' commands reach ---


async def test_the_agent_reaches_its_api_through_the_proxy(
    tmp_path: Path, authority: Authority, proxy: HttpProxy
) -> None:
    async with agents_api(authority, "api.corp.test") as url:
        environ = {"HTTPS_PROXY": proxy.url(ENCODED), "SSL_CERT_FILE": str(authority.file)}
        assert await said_by_agent(tmp_path, url, environ) == "done"
    assert f"CONNECT {url.removeprefix('https://')}" in proxy.seen


async def test_an_api_that_no_proxy_names_is_asked_directly(
    tmp_path: Path, authority: Authority, proxy: HttpProxy
) -> None:
    async with agents_api(authority, "127.0.0.1") as url:
        environ = {
            "HTTPS_PROXY": proxy.url(ENCODED),
            "NO_PROXY": "*.example.org, 127.0.0.1",
            "SSL_CERT_FILE": str(authority.file),
        }
        assert await said_by_agent(tmp_path, url, environ) == "done"
    assert [request for request in proxy.seen if "127.0.0.1" in request] == []


@asynccontextmanager
async def agents_api(authority: Authority, host: str) -> AsyncIterator[str]:
    """Where a model is that says ``done``."""
    async with (
        ScriptedModel([scenario(text_step("done"))]) as model,
        behind_tls(port_of(model.url), authority, host) as url,
    ):
        yield url


async def said_by_agent(tmp_path: Path, url: str, environ: dict[str, str]) -> str | None:
    maker = JobMaker(tmp_path, url)
    maker.environ |= environ
    async with opened(maker.job()) as session:
        return (await take_turn(session)).end.result


async def test_a_sandboxed_command_reaches_allowed_hosts_through_the_proxy_without_its_login(
    tmp_path: Path, authority: Authority, proxy: HttpProxy, file_port: int
) -> None:
    async with behind_tls(file_port, authority, "files.corp.test") as files:
        host = files.removeprefix("https://")
        commands = f"curl -sS {files}/file", "curl -sS https://other.corp.test/", "env"
        calls = [step(bash(command)) for command in commands]
        async with ScriptedModel([scenario(*calls, text_step("done"))]) as model:
            maker = JobMaker(tmp_path, model.url, hosts=(host,))
            # Where commands may read nothing else.
            trusted = maker.cwd.parents[2] / "authority.pem"
            trusted.write_bytes(authority.file.read_bytes())
            maker.environ |= {
                "HTTPS_PROXY": proxy.url(ENCODED),
                "NO_PROXY": "127.0.0.1",
                "SSL_CERT_FILE": str(trusted),
            }
            async with opened(await asyncio.to_thread(maker.job)) as session:
                turn = await take_turn(session)
    (reached, _), (_, refused), (variables, _) = turn.results
    assert "content" in reached
    assert refused
    assert "HTTPS_PROXY=" in variables
    assert ENCODED.rpartition(":")[2] not in variables
    assert proxy.seen == [f"CONNECT {host}"]


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])
