"""A company's own certificate authority, and servers' certificates of it."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.fakes.wire import open_wire

DAY = datetime.timedelta(days=1)


class Authority:
    """Signs for names and addresses; its own certificate is :attr:`file`, in PEM form."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name("a company's authority")
        self._issued = 1
        built = (
            self._builder(self._name, self._key.public_key(), expired=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False
            )
            .sign(self._key, hashes.SHA256())
        )
        self.file = folder / "authority.pem"
        self.file.write_bytes(built.public_bytes(serialization.Encoding.PEM))

    def server(self, *hosts: str, expired: bool = False) -> ssl.SSLContext:
        """What a server needs that is one of *hosts*, names or addresses."""
        key = ec.generate_private_key(ec.SECP256R1())
        built = (
            self._builder(_name("a server"), key.public_key(), expired=expired)
            .add_extension(
                x509.SubjectAlternativeName([_general_name(host) for host in hosts]), critical=False
            )
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
            .sign(self._key, hashes.SHA256())
        )
        file = self._folder / f"server-{self._issued}.pem"
        file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            + built.public_bytes(serialization.Encoding.PEM)
        )
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(file)
        return context

    def directory(self) -> Path:
        """A folder with its certificate under the name by which OpenSSL looks for it."""
        folder = self._folder / "directory"
        folder.mkdir()
        command = ["openssl", "x509", "-noout", "-subject_hash", "-in", str(self.file)]
        said = subprocess.run(command, check=True, capture_output=True, text=True)
        (folder / f"{said.stdout.strip()}.0").write_bytes(self.file.read_bytes())
        return folder

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, *, expired: bool
    ) -> x509.CertificateBuilder:
        self._issued += 1
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(self._issued)
            .not_valid_before(now - 2 * DAY)
            .not_valid_after(now - DAY if expired else now + DAY)
        )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


@asynccontextmanager
async def behind_tls(port: int, authority: Authority, host: str) -> AsyncIterator[str]:
    """The server on *port* as ``https://{host}:…``."""
    async with open_wire(port, authority.server(host)) as wire:
        yield f"https://{host}:{wire.port}"
