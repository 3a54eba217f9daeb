"""Everything that leaves the machine, in a company's network: proxy, own authority, no IPv6.

The proxy alone knows the names of other machines, so what arrives has come through it.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from pydantic import SecretStr

from executor.modes.local.websocket_client import WebSocketClient
from executor.network.access import NetworkAccess
from executor.tasks.attachments import Attachments
from executor.tasks.workspace import Workspaces
from scripts.scripted_model import ScriptedModel
from shared.errors import ConfigError, LinkLost, RunError
from shared.protocol.execution import ExecutionRequest, read_execution_request
from tests.fakes.agent_jobs import JobMaker, opened, take_turn
from tests.fakes.authority import Authority
from tests.fakes.backend import TOKEN, FakeBackend, open_backend
from tests.fakes.git_server import git, make_repository, serving
from tests.fakes.house import bash
from tests.fakes.http_proxy import HttpProxy, open_proxy
from tests.fakes.model import scenario, step, text_step
from tests.fakes.wire import open_wire

LOGIN = "DOMAIN\\ada:pä:ß/@w"
"""What has to be written as XX in an address, and what Latin-1 does not know the way it is sent."""
ENCODED = "DOMAIN%5Cada:p%C3%A4:%C3%9F%2F%40w"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "authority")


@pytest.fixture
async def proxy() -> AsyncIterator[HttpProxy]:
    async with open_proxy(HttpProxy(login=LOGIN)) as running:
        yield running


@asynccontextmanager
async def behind_tls(port: int, authority: Authority, host: str) -> AsyncIterator[str]:
    """The server on *port* as ``https://{host}:…``."""
    async with open_wire(port, authority.server(host)) as wire:
        yield f"https://{host}:{wire.port}"


async def ignore(_event: str, _raw: object) -> dict[str, Any]:
    return {}


async def connects(url: str, environ: dict[str, str]) -> None:
    """Connect to a backend, and leave."""
    client = WebSocketClient(url, SecretStr(TOKEN), network=NetworkAccess(environ))
    async with asyncio.timeout(10), client.connect(ignore):
        pass


# --- The socket ---


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"])
async def test_the_backend_is_reached_through_a_proxy_that_wants_a_login(
    authority: Authority, proxy: HttpProxy, variable: str
) -> None:
    environ = {variable: proxy.url(ENCODED), "SSL_CERT_FILE": str(authority.file)}
    async with (
        open_backend() as backend,
        behind_tls(backend.port, authority, "backend.corp.test") as url,
    ):
        await connects(url, environ)
        assert proxy.seen == [f"CONNECT {url.removeprefix('https://')}"]
        assert backend.most_connections == 1


async def test_a_backend_without_tls_is_reached_through_a_proxy_too(proxy: HttpProxy) -> None:
    async with open_backend() as backend:
        url = f"http://backend.corp.test:{backend.port}"
        await connects(url, {"HTTP_PROXY": proxy.url(ENCODED)})
    assert [request.split("?")[0] for request in proxy.seen] == [f"GET {url}/socket.io/"]


async def test_what_no_proxy_names_is_reached_directly(
    authority: Authority, proxy: HttpProxy
) -> None:
    async with open_backend() as backend, behind_tls(backend.port, authority, "127.0.0.1") as url:
        environ = {
            "HTTPS_PROXY": proxy.url(ENCODED),
            "NO_PROXY": "example.org, 127.0.0.0/8",
            "SSL_CERT_FILE": str(authority.file),
        }
        await connects(url, environ)
    assert proxy.seen == proxy.turned_away == []


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    ("way", "hint"),
    [
        ("Basic realm=x", "user and password into the variable: http://user:password@host:port"),
        ("Negotiate", "takes Negotiate only: run a local proxy"),
    ],
)
async def test_a_proxy_that_wants_another_login_is_told_with_what_to_do(
    proxy: HttpProxy, scheme: str, way: str, hint: str
) -> None:
    proxy.way = way
    variable = f"{scheme.upper()}_PROXY"
    with pytest.raises(LinkLost) as caught:
        await connects(f"{scheme}://backend.corp.test:1", {variable: proxy.url("ada:wrong")})
    said = str(caught.value)
    assert f"127.0.0.1:{proxy.port} of {variable}, answered HTTP 407" in said
    assert hint in said
    assert "wrong" not in said


async def test_a_proxy_that_refuses_is_told_from_a_backend_that_does(proxy: HttpProxy) -> None:
    proxy.refuses = 403
    with pytest.raises(LinkLost, match=r"the proxy on the way to .* HTTP 403 \(ask whoever runs"):
        await connects("https://backend.corp.test", {"HTTPS_PROXY": proxy.url()})


async def test_a_proxy_that_cannot_be_used_is_a_wrong_setting() -> None:
    with pytest.raises(ConfigError, match="ALL_PROXY names a socks5 proxy"):
        await connects("https://backend.corp.test", {"ALL_PROXY": "socks5://127.0.0.1:1"})


async def test_a_directory_of_authorities_is_trusted(authority: Authority, tmp_path: Path) -> None:
    folder = tmp_path / "authorities"
    folder.mkdir()
    (folder / f"{await hash_of(authority.file)}.0").write_bytes(authority.file.read_bytes())
    async with open_backend() as backend, behind_tls(backend.port, authority, "127.0.0.1") as url:
        await connects(url, {"SSL_CERT_DIR": str(folder)})
        assert backend.most_connections == 1


async def hash_of(certificate: Path) -> str:
    """The name under which OpenSSL looks for it."""
    process = await asyncio.create_subprocess_exec(
        *("openssl", "x509", "-noout", "-subject_hash", "-in", certificate),
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    return output.decode().strip()


@pytest.mark.parametrize(
    ("hosts", "expired", "says"),
    [
        (("127.0.0.1",), True, "expired.*check this machine's clock"),
        (("another.corp.test",), False, "use the name that the certificate is made out to"),
    ],
)
async def test_a_certificate_that_does_not_fit_is_told_with_what_to_do(
    authority: Authority, hosts: tuple[str, ...], expired: bool, says: str
) -> None:
    tls = authority.server(*hosts, expired=expired)
    async with open_wire(1, tls) as wire:
        with pytest.raises(LinkLost, match=says):
            await connects(f"https://127.0.0.1:{wire.port}", {"SSL_CERT_FILE": str(authority.file)})


# --- Names and IPv6 ---

Names = dict[str, list[str]]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    """What this machine's DNS knows, in place of its own: addresses by name."""
    known: Names = {}
    real = socket.getaddrinfo

    def look_up(host: Any, *arguments: Any, **options: Any) -> Any:
        if host is None or host in {"127.0.0.1", "::1"}:
            return real(host, *arguments, **options)
        if host not in known:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [entry for it in known[host] for entry in real(it, *arguments, **options)]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return known


async def test_an_unknown_name_is_told_as_such(names: Names) -> None:
    with pytest.raises(LinkLost, match=r"https://backend\.corp\.test cannot .* DNS or VPN"):
        await connects("https://backend.corp.test", {})


async def test_an_unknown_name_of_the_proxy_is_not_taken_for_the_backends(names: Names) -> None:
    with pytest.raises(LinkLost, match=r"the proxy .* cannot be reached: Name .* HTTPS_PROXY"):
        await connects("https://backend.corp.test", {"HTTPS_PROXY": "proxy.corp.test:3128"})


@pytest.mark.parametrize("silent", [False, True], ids=["refused", "silent"])
async def test_where_ipv6_leads_nowhere_ipv4_is_taken(names: Names, silent: bool) -> None:
    names["backend.corp.test"] = ["::1", "127.0.0.1"]
    async with AsyncExitStack() as stack:
        backend = await stack.enter_async_context(open_backend())
        if silent:
            await stack.enter_async_context(black_hole(backend.port))
        await connects(f"http://backend.corp.test:{backend.port}", {})
        assert backend.most_connections == 1


@asynccontextmanager
async def black_hole(port: int) -> AsyncIterator[None]:
    """An address of IPv6 that answers no attempt to connect: its queue of them is full."""
    with socket.socket(socket.AF_INET6) as listening, ExitStack() as stack:
        listening.bind(("::1", port))
        listening.listen(0)
        loop = asyncio.get_running_loop()
        for _ in range(2):
            waiting = stack.enter_context(socket.socket(socket.AF_INET6))
            waiting.setblocking(False)
            connecting = loop.create_task(loop.sock_connect(waiting, ("::1", port)))
            stack.callback(connecting.cancel)
            await asyncio.wait({connecting}, timeout=0.1)
        yield


async def test_a_backend_at_an_address_of_ipv6_is_reached() -> None:
    async with open_backend() as backend:
        server = await asyncio.start_server(_forwarding_to(backend), "::1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            await connects(f"http://[::1]:{port}", {})
        assert backend.most_connections == 1


def _forwarding_to(backend: FakeBackend) -> Any:
    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", backend.port)

        async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            while data := await source.read(65536):
                sink.write(data)

        ends = {
            asyncio.create_task(copy(reader, far_writer)),
            asyncio.create_task(copy(far_reader, writer)),
        }
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        for end in ends:
            end.cancel()
        writer.transport.abort()
        far_writer.transport.abort()

    return forward


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


async def test_git_trusts_a_directory_of_authorities(
    tmp_path: Path, git_port: int, authority: Authority
) -> None:
    folder = tmp_path / "authorities"
    folder.mkdir()
    (folder / f"{await hash_of(authority.file)}.0").write_bytes(authority.file.read_bytes())
    async with behind_tls(git_port, authority, "127.0.0.1") as url:
        ours = workspaces(tmp_path, {"SSL_CERT_DIR": str(folder)})
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
    attachments = Attachments(backend_url=None, environ=environ)
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
    async with (
        ScriptedModel([scenario(text_step("done"))]) as model,
        behind_tls(port_of(model.url), authority, "api.corp.test") as url,
    ):
        maker = JobMaker(tmp_path, url)
        maker.environ |= {
            "HTTPS_PROXY": proxy.url(ENCODED),
            "SSL_CERT_FILE": str(authority.file),
        }
        async with opened(maker.job()) as session:
            turn = await take_turn(session)
    assert turn.end.result == "done"
    assert f"CONNECT {url.removeprefix('https://')}" in proxy.seen


async def test_a_sandboxed_command_reaches_an_allowed_host_through_the_proxy(
    tmp_path: Path, authority: Authority, proxy: HttpProxy, file_port: int
) -> None:
    async with behind_tls(file_port, authority, "files.corp.test") as files:
        host = files.removeprefix("https://")
        calls = bash(f"curl -sS {files}/file"), bash("curl -sS https://other.corp.test/")
        async with ScriptedModel([scenario(*map(step, calls), text_step("done"))]) as model:
            maker = JobMaker(tmp_path, model.url, hosts=(host,))
            maker.environ |= {
                "HTTPS_PROXY": proxy.url(ENCODED),
                "NO_PROXY": "127.0.0.1",
                "SSL_CERT_FILE": str(authority.file),
            }
            async with opened(maker.job()) as session:
                turn = await take_turn(session)
    (reached, _), (_, refused) = turn.results
    assert "content" in reached
    assert refused
    assert proxy.seen == [f"CONNECT {host}"]


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])
