"""The connection to the backend in a company's network: proxy, own authority, names, no IPv6.

The proxy alone knows the way to other machines, so what arrives has come through it.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from pydantic import SecretStr

from executor.modes.local.websocket_client import WebSocketClient
from executor.network.access import NetworkAccess
from shared.errors import ConfigError, LinkLost
from tests.fakes.authority import Authority, behind_tls
from tests.fakes.backend import TOKEN, FakeBackend, open_backend
from tests.fakes.http_proxy import ENCODED, HttpProxy
from tests.fakes.wire import black_hole, open_wire


async def ignore(_event: str, _raw: object) -> dict[str, Any]:
    return {}


async def connects(url: str, environ: dict[str, str]) -> None:
    """Connect to a backend, and leave."""
    client = WebSocketClient(url, SecretStr(TOKEN), network=NetworkAccess(environ))
    async with asyncio.timeout(30), client.connect(ignore):
        pass


@pytest.mark.parametrize("scheme", ["http", "ws"])
async def test_a_path_prefix_and_either_scheme_lead_to_the_backend(scheme: str) -> None:
    backend = FakeBackend(prefix="/api/v2")
    async with open_backend(backend):
        await connects(backend.url.replace("http", scheme), {})
        assert backend.most_connections == 1


async def test_an_unknown_authority_is_told_with_the_variable_for_it(authority: Authority) -> None:
    async with behind_tls(1, authority, "127.0.0.1") as url:
        with pytest.raises(LinkLost, match=r"not trusted \(.*issuer.*SSL_CERT_FILE"):
            await connects(url, {})


async def test_without_more_said_the_environment_of_the_process_counts(
    authority: Authority, proxy: HttpProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy.url(ENCODED))
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    async with (
        asyncio.timeout(30),
        open_backend() as backend,
        behind_tls(backend.port, authority, "backend.corp.test") as url,
        WebSocketClient(url, SecretStr(TOKEN)).connect(ignore),
    ):
        assert len(backend.connections) == 1
    assert len(proxy.seen) == 1


async def test_a_proxy_that_is_not_there_is_named_as_the_cause() -> None:
    async with open_wire(0) as nobody:
        await nobody.refuse()
        with pytest.raises(
            LinkLost, match=r"the proxy on the way to .* cannot be reached"
        ) as caught:
            await connects(
                "https://127.0.0.1:1", {"HTTPS_PROXY": f"http://ada:s3cr3t@127.0.0.1:{nobody.port}"}
            )
    assert "s3cr3t" not in str(caught.value)


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
    ("way", "login", "hint"),
    [
        ("Basic realm=x", None, "user and password into the variable: http://user:password@host"),
        ("Basic realm=x", "ada:wrong", "does not take the login given"),
        ("Negotiate", "ada:wrong", "takes Negotiate only: run a local proxy"),
    ],
)
async def test_a_proxy_that_wants_another_login_is_told_with_what_to_do(
    proxy: HttpProxy, scheme: str, way: str, login: str | None, hint: str
) -> None:
    proxy.way = way
    variable = f"{scheme.upper()}_PROXY"
    with pytest.raises(LinkLost) as caught:
        await connects(f"{scheme}://backend.corp.test:1", {variable: proxy.url(login)})
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


async def test_a_directory_of_authorities_is_trusted(authority: Authority) -> None:
    async with open_backend() as backend, behind_tls(backend.port, authority, "127.0.0.1") as url:
        await connects(url, {"SSL_CERT_DIR": str(authority.directory())})
        assert backend.most_connections == 1


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


async def test_a_backend_that_leads_from_http_to_https_is_trusted_as_one_with_https(
    authority: Authority, names: Names
) -> None:
    names["backend.corp.test"] = ["127.0.0.1"]
    async with (
        open_backend() as backend,
        behind_tls(backend.port, authority, "backend.corp.test") as secure,
        leading_to(secure) as port,
    ):
        url = f"http://backend.corp.test:{port}"
        await connects(url, {"SSL_CERT_FILE": str(authority.file)})
        assert backend.most_connections == 1
        with pytest.raises(LinkLost, match="is not trusted"):
            await connects(url, {})


async def test_a_backend_without_tls_needs_no_usable_authorities(names: Names) -> None:
    names["backend.corp.test"] = ["127.0.0.1"]
    async with open_backend() as backend:
        url = f"http://backend.corp.test:{backend.port}"
        await connects(url, {"SSL_CERT_FILE": "/nowhere/ca.pem"})
        assert backend.most_connections == 1


@asynccontextmanager
async def leading_to(url: str) -> AsyncIterator[int]:
    """The port of a server that leads from every address to the same at *url*."""

    async def lead(request: web.Request) -> web.Response:
        raise web.HTTPMovedPermanently(url + request.path_qs)

    app = web.Application()
    app.router.add_get("/{path:.*}", lead)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield runner.addresses[0][1]
    await runner.cleanup()


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
