"""The way to a backend: each step that can fail is named, with what puts it right."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from executor.diagnosis import backend, route
from executor.diagnosis.backend import look_at_backend
from executor.diagnosis.finding import Finding, State
from shared.protocol.local import NAMESPACE
from tests.fakes.authority import Authority
from tests.fakes.backend import TOKEN, FakeBackend, open_backend
from tests.fakes.http_proxy import HttpProxy, open_proxy
from tests.fakes.manager import RunningManager
from tests.fakes.wire import open_wire


async def look(url: str, token: str | None = TOKEN) -> list[Finding]:
    async with asyncio.timeout(50):
        return await look_at_backend(url, SecretStr(token) if token else None, os.environ)


async def what_fails(url: str) -> Finding:
    """The only finding that is not ok, which is the last."""
    *before, last = await look(url)
    assert {finding.state for finding in before} <= {State.OK}
    assert last.state is State.FAILED
    assert last.remedy
    return last


@contextlib.asynccontextmanager
async def answering(answer: bytes | None) -> AsyncIterator[int]:
    """A server that sends *answer* to everything; ``None``: nothing, ever."""
    over = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            await reader.read(1)
            if answer is None:
                await over.wait()
            else:
                writer.write(answer)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        over.set()
        server.close()


async def test_a_backend_that_lets_us_in_is_ok_in_every_step(manager: RunningManager) -> None:
    findings = await look(manager.url, manager.executor_token)

    assert {finding.state for finding in findings} == {State.OK}
    assert [finding.check for finding in findings] == [
        "backend connection",
        "backend namespace",
        "backend token",
        "clock",
    ]


async def test_a_registered_executor_keeps_its_connection(manager: RunningManager) -> None:
    async with manager.executor() as executor:
        findings = await look(manager.url, manager.executor_token)

        assert findings[-2] == Finding("backend token", State.OK, "is accepted")
        await manager.dispatched(executor)


async def test_a_wrong_token_is_told_from_a_missing_namespace(manager: RunningManager) -> None:
    findings = await look(manager.url, "another-token")

    by_check = {finding.check: finding for finding in findings}
    assert by_check["backend namespace"].state is State.OK
    assert by_check["backend token"].state is State.FAILED
    assert "refused" in by_check["backend token"].what
    assert "export WEGENT_AUTH_TOKEN=" in str(by_check["backend token"].remedy)
    assert "another-token" not in str(findings)


async def test_without_a_token_the_way_is_looked_at_all_the_same() -> None:
    async with open_backend() as server:
        findings = await look(server.url, None)

        assert [finding.check for finding in findings] == ["backend connection", "clock"]
        assert server.most_connections == 0


async def test_a_server_without_the_namespace_is_named() -> None:
    server = FakeBackend()
    del server.sio.handlers[NAMESPACE]
    async with open_backend(server):
        findings = await look(server.url)

    (failure,) = (finding for finding in findings if finding.state is State.FAILED)
    assert failure.check == "backend namespace"
    assert f"has no {NAMESPACE}" in failure.what
    assert failure.remedy == "export WEGENT_BACKEND_URL=https://host[:port]"


async def test_a_web_server_that_is_no_backend_is_named() -> None:
    async with answering(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n") as port:
        failure = await what_fails(f"http://127.0.0.1:{port}")

    assert failure.check == "backend namespace"
    assert "HTTP 404" in failure.what


async def test_a_name_that_nobody_knows_is_named() -> None:
    failure = await what_fails("https://backend.invalid:8001")

    assert failure.check == "backend name"
    assert failure.what.startswith("backend.invalid cannot be looked up")
    assert "export WEGENT_BACKEND_URL=" in str(failure.remedy)


async def test_a_closed_port_is_named() -> None:
    async with open_wire(0) as nobody:
        await nobody.refuse()
        failure = await what_fails(f"http://127.0.0.1:{nobody.port}")

    assert failure.check == "backend connection"
    assert f"127.0.0.1:{nobody.port}: Connection refused" in failure.what


async def test_an_unknown_authority_is_put_right_with_its_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority(tmp_path)
    async with (
        open_backend() as server,
        open_wire(server.port, authority.server("127.0.0.1")) as wire,
    ):
        url = f"https://127.0.0.1:{wire.port}"
        failure = await what_fails(url)
        assert failure.check == "backend TLS"
        assert "is not trusted" in failure.what
        assert failure.remedy == "export SSL_CERT_FILE=/path/to/the-authority.pem"

        monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
        findings = await look(url)
    assert {finding.state for finding in findings} == {State.OK}
    assert "certificate of a company's authority" in findings[1].what


async def test_a_file_of_authorities_that_is_not_there_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/authority.pem")

    failure = await what_fails("https://127.0.0.1:1")

    assert failure.check == "backend TLS"
    assert failure.what.startswith("SSL_CERT_FILE: /nowhere/authority.pem cannot be used")


@pytest.mark.parametrize(
    ("host", "expired", "remedy"),
    [("127.0.0.1", True, "this clock is wrong"), ("example.com", False, "as the certificate does")],
)
async def test_a_certificate_that_is_out_of_date_or_anothers_needs_another_remedy(
    host: str, expired: bool, remedy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    async with open_wire(0, authority.server(host, expired=expired)) as wire:
        failure = await what_fails(f"https://127.0.0.1:{wire.port}")

    assert failure.check == "backend TLS"
    assert remedy in str(failure.remedy)


async def test_https_to_a_server_without_tls_is_named() -> None:
    async with open_backend() as server:
        failure = await what_fails(server.url.replace("http:", "https:"))

    assert failure.check == "backend TLS"
    assert "does not speak TLS" in failure.what
    assert "export WEGENT_BACKEND_URL=http://" in str(failure.remedy)


async def test_http_to_a_server_with_tls_is_named(tmp_path: Path) -> None:
    async with open_wire(0, Authority(tmp_path).server("127.0.0.1")) as wire:
        failure = await what_fails(f"http://127.0.0.1:{wire.port}")

    assert failure.check == "backend HTTP"
    assert "export WEGENT_BACKEND_URL=https://" in str(failure.remedy)


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_silence_is_told_with_the_step_it_is_in(
    scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(route, "LIMIT_S", 0.2)
    async with answering(None) as port:
        failure = await what_fails(f"{scheme}://127.0.0.1:{port}")

    assert failure.check == {"http": "backend HTTP", "https": "backend TLS"}[scheme]
    assert "no answer" in failure.what
    assert f"export {scheme.upper()}_PROXY=" in str(failure.remedy)


async def test_a_proxy_leads_to_the_backend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    async with (
        open_backend() as server,
        open_wire(server.port, authority.server("backend.example")) as wire,
        open_proxy(HttpProxy(login="user:the-password")) as proxy,
    ):
        monkeypatch.setenv("HTTPS_PROXY", proxy.url("user:the-password"))
        findings = await look(f"https://backend.example:{wire.port}")

    assert {finding.state for finding in findings} == {State.OK}
    assert f"the proxy 127.0.0.1:{proxy.port} (HTTPS_PROXY)" in findings[1].what
    assert "the-password" not in str(findings)


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("login", [None, "user:wrong"])
async def test_a_proxy_that_wants_another_login_is_named(
    scheme: str, login: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    variable = f"{scheme.upper()}_PROXY"
    async with open_proxy(HttpProxy(login="user:the-password")) as proxy:
        monkeypatch.setenv(variable, proxy.url(login))
        failure = await what_fails(f"{scheme}://backend.example:8001")

    assert failure.check == "backend proxy"
    assert ("does not accept the login" if login else "wants a login") in failure.what
    assert failure.remedy == f"export {variable}=http://USER:PASSWORD@127.0.0.1:{proxy.port}"


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_proxy_that_takes_no_password_needs_another_in_between(
    scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ways = "Negotiate\r\nProxy-Authenticate: NTLM"
    async with open_proxy(HttpProxy(login="user:the-password", way=ways)) as proxy:
        monkeypatch.setenv(f"{scheme.upper()}_PROXY", proxy.url())
        failure = await what_fails(f"{scheme}://backend.example:8001")

    assert failure.check == "backend proxy"
    assert "takes no login but Negotiate or NTLM (HTTP 407)" in failure.what
    assert str(failure.remedy).startswith("run a local proxy that can do that")


@pytest.mark.parametrize(("status", "reason"), [(403, "forbids"), (502, "cannot reach")])
async def test_a_proxy_that_leads_nowhere_is_named_with_the_way_around_it(
    status: int, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_proxy(HttpProxy(refuses=status)) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url())
        failure = await what_fails("https://backend.example:8001")

    assert failure.check == "backend proxy"
    assert f"(https_proxy) {reason} backend.example (HTTP {status})" in failure.what
    assert 'export NO_PROXY="$NO_PROXY,backend.example"' in str(failure.remedy)


async def test_a_proxy_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_wire(0) as nobody:
        await nobody.refuse()
        monkeypatch.setenv("HTTPS_PROXY", f"http://user:the-password@127.0.0.1:{nobody.port}")
        failure = await what_fails("https://backend.example:8001")

    assert failure.check == "backend connection"
    assert failure.what.startswith(f"the proxy 127.0.0.1:{nobody.port} (HTTPS_PROXY) cannot be")
    assert "export HTTPS_PROXY=" in str(failure.remedy)
    assert "the-password" not in str(failure)


async def test_a_proxy_variable_that_names_no_http_proxy_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1080")

    failure = await what_fails("https://backend.example:8001")

    assert failure.check == "backend proxy"
    assert failure.what.startswith("ALL_PROXY ")


async def test_what_is_no_proxy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    async with answering(b"SSH-2.0-OpenSSH\r\n\r\n") as port:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port}")
        failure = await what_fails("https://backend.example:8001")

    assert failure.check == "backend proxy"
    assert "does not answer as a proxy" in failure.what


@pytest.mark.parametrize(
    ("date", "side"),
    [("Sat, 01 Jan 2000 00:00:00 GMT", "ahead of"), ("Fri, 01 Jan 2100 00:00:00 GMT", "behind")],
)
async def test_a_clock_that_is_off_is_a_warning(date: str, side: str) -> None:
    answer = f"HTTP/1.1 404 Not Found\r\nDate: {date}\r\nContent-Length: 0\r\n\r\n".encode()
    async with answering(answer) as port:
        *_, clock = await look(f"http://127.0.0.1:{port}", None)

    assert (clock.check, clock.state) == ("clock", State.WARNING)
    assert f"s {side} the backend's" in clock.what
    assert clock.remedy


async def test_a_backend_that_tells_no_time_leaves_the_clock_out() -> None:
    async with answering(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n") as port:
        findings = await look(f"http://127.0.0.1:{port}", None)

    assert [finding.check for finding in findings] == ["backend connection"]


async def test_a_backend_that_never_answers_the_token_is_no_backend(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(backend, "CONNECT_WITHIN_S", 0.2)
    server = FakeBackend()
    over = asyncio.Event()

    async def think(*_: object) -> None:
        await over.wait()

    server.sio.on("connect", think, namespace=NAMESPACE)
    async with open_backend(server):
        findings = await look(server.url)
        over.set()

    assert "did not answer within 0.2 s" in findings[1].what
