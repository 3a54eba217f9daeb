"""The link in a company's network: path prefixes, a private authority, a proxy."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import SecretStr

from executor.modes.local.websocket_client import WebSocketClient
from shared.errors import LinkLost
from tests.fakes.backend import TOKEN, FakeBackend, open_backend
from tests.fakes.wire import open_wire


async def ignore(_event: str, _raw: object) -> dict[str, Any]:
    return {}


def client(url: str) -> WebSocketClient:
    return WebSocketClient(url, SecretStr(TOKEN))


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate for 127.0.0.1 that nobody trusts yet, with its key in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a private authority")])
    now = datetime.datetime.now(datetime.UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path / "certificate.pem"
    file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + built.public_bytes(serialization.Encoding.PEM)
    )
    return file


@pytest.fixture
def tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    return context


@asynccontextmanager
async def open_proxy(seen: list[str]) -> AsyncIterator[int]:
    """An HTTP proxy for CONNECT on loopback; notes what it is asked for."""

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        seen.append(head)
        host, _, port = head.split()[1].rpartition(":")
        far_reader, far_writer = await asyncio.open_connection(host, int(port))
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(copy(reader, far_writer))
                group.create_task(copy(far_reader, writer))
        finally:
            writer.close()
            far_writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@pytest.mark.parametrize("scheme", ["http", "ws"])
async def test_a_path_prefix_and_either_scheme_lead_to_the_backend(scheme: str) -> None:
    backend = FakeBackend(prefix="/api/v2")
    async with (
        asyncio.timeout(10),
        open_backend(backend),
        client(backend.url.replace("http", scheme)).connect(ignore),
    ):
        assert len(backend.connections) == 1


async def test_an_unknown_authority_is_a_loss_that_names_the_variable(tls: ssl.SSLContext) -> None:
    async with asyncio.timeout(10), open_backend() as backend, open_wire(backend.port, tls) as wire:
        with pytest.raises(LinkLost, match=r"not trusted \(self.signed.*SSL_CERT_FILE"):
            async with client(f"https://127.0.0.1:{wire.port}").connect(ignore):
                pass


async def test_a_private_authority_is_trusted_when_ssl_cert_file_names_it(
    certificate: Path, tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    async with (
        asyncio.timeout(10),
        open_backend() as backend,
        open_wire(backend.port, tls) as wire,
        client(f"wss://127.0.0.1:{wire.port}").connect(ignore),
    ):
        assert len(backend.connections) == 1


async def test_the_connection_goes_through_the_proxy_of_the_environment(
    certificate: Path, tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    async with (
        asyncio.timeout(10),
        open_backend() as backend,
        open_wire(backend.port, tls) as wire,
        open_proxy(seen) as proxy,
    ):
        monkeypatch.setenv("HTTPS_PROXY", f"http://user:pass@127.0.0.1:{proxy}")
        async with client(f"https://127.0.0.1:{wire.port}").connect(ignore):
            assert len(backend.connections) == 1
        assert seen[0].startswith(f"CONNECT 127.0.0.1:{wire.port} ")
        assert "Proxy-Authorization: Basic " in seen[0]
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        async with client(f"https://127.0.0.1:{wire.port}").connect(ignore):
            assert len(seen) == 1


async def test_a_proxy_that_is_not_there_is_named_as_the_cause(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with asyncio.timeout(10), open_wire(0) as nobody:
        await nobody.refuse()
        monkeypatch.setenv("HTTPS_PROXY", f"http://user:pass@127.0.0.1:{nobody.port}")
        with pytest.raises(
            LinkLost, match=r"the proxy on the way to .* cannot be reached"
        ) as caught:
            async with client("https://127.0.0.1:1").connect(ignore):
                pass
        assert "pass" not in str(caught.value)
