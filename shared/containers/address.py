"""Where the engine listens, found as Docker's own tools find it.

First of all ``DOCKER_HOST``, then the context of ``DOCKER_CONTEXT`` or of Docker's configuration,
then the socket that Docker has by default. (aiodocker by itself lets a context win over
``DOCKER_HOST``, and does not know ``DOCKER_CONFIG``.)
"""

from __future__ import annotations

import hashlib
import json
import os
import ssl
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from shared.errors import ConfigError

DEFAULT_SOCKET: Final = (
    "npipe:////./pipe/docker_engine" if sys.platform == "win32" else "unix:///var/run/docker.sock"
)

_PORT: Final = 2375
_TLS_PORT: Final = 2376


@dataclass(frozen=True, slots=True)
class Address:
    """Where to ask.

    Attributes:
        url: ``unix://``, ``npipe://``, ``http://`` or ``https://``.
        tls: For ``https://``; otherwise ``None``.
    """

    url: str
    tls: ssl.SSLContext | None = None


def find_engine(environ: Mapping[str, str]) -> Address:
    """The address of the engine; reads files: not for the event loop.

    Raises:
        ConfigError: What the variables or the context say cannot be used.
    """
    config = Path(environ.get("DOCKER_CONFIG") or Path.home() / ".docker")
    if host := environ.get("DOCKER_HOST"):
        certificates = environ.get("DOCKER_CERT_PATH") or config
        verify = bool(environ.get("DOCKER_TLS_VERIFY"))
        return _address(host, "DOCKER_HOST", Path(certificates) if verify else None)
    name = environ.get("DOCKER_CONTEXT") or _read(config / "config.json").get("currentContext")
    if not name or name == "default":
        return Address(DEFAULT_SOCKET)
    return _of_context(config / "contexts", str(name))


def missing_socket(environ: Mapping[str, str]) -> str | None:
    """The socket of the engine, if it is a file and not there; reads files, connects to nothing.

    Raises:
        ConfigError: As from :func:`find_engine`.
    """
    scheme, _, path = find_engine(environ).url.partition("://")
    return path if scheme == "unix" and not os.path.exists(path) else None  # noqa: PTH110 - raises nothing


def _of_context(contexts: Path, name: str) -> Address:
    folder = hashlib.sha256(name.encode()).hexdigest()
    meta = _read(contexts / "meta" / folder / "meta.json")
    try:
        endpoint = meta["Endpoints"]["docker"]
        host = str(endpoint["Host"])
    except (KeyError, TypeError):
        raise ConfigError(
            "Docker's current context does not exist or names no engine",
            hint="`docker context ls` lists them; DOCKER_HOST wins over all",
        ) from None
    certificates = contexts / "tls" / folder / "docker"
    address = _address(host, "Docker's context", certificates if certificates.is_dir() else None)
    if address.tls is not None and endpoint.get("SkipTLSVerify"):
        address.tls.check_hostname = False
        address.tls.verify_mode = ssl.CERT_NONE
    return address


def _address(host: str, source: str, certificates: Path | None) -> Address:
    """Args: *certificates*: a folder with ``ca.pem``, ``cert.pem``, ``key.pem`` for TLS."""
    scheme = host.partition("://")[0]
    if scheme in ("unix", "npipe"):
        return Address(host)
    if scheme not in ("tcp", "http", "https"):
        raise ConfigError(
            f"{source} names an engine in a way that is not supported",
            hint="use unix://, npipe:// or tcp://; forward a socket to reach one over SSH",
        )
    secure = certificates is not None or scheme == "https"
    parts = urlsplit(host)
    try:
        port = parts.port or (_TLS_PORT if secure else _PORT)
    except ValueError:
        port = None
    if not parts.hostname or port is None:
        raise ConfigError(f"{source} has no usable host and port")
    name = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    if not secure:
        return Address(f"http://{name}:{port}")
    return Address(f"https://{name}:{port}", _tls(certificates, source))


def _tls(certificates: Path | None, source: str) -> ssl.SSLContext:
    try:
        if certificates is None:
            return ssl.create_default_context()
        authority = certificates / "ca.pem"
        context = ssl.create_default_context(cafile=authority if authority.exists() else None)
        if (certificates / "cert.pem").exists():
            context.load_cert_chain(certificates / "cert.pem", certificates / "key.pem")
    except (OSError, ssl.SSLError) as exc:
        raise ConfigError(
            f"the certificates for {source} cannot be used: {type(exc).__name__}",
            hint="DOCKER_CERT_PATH names a folder with ca.pem, cert.pem and key.pem",
        ) from exc
    return context


def _read(path: Path) -> dict[str, Any]:
    """The JSON object in *path*; empty without the file.

    Raises:
        ConfigError: It is there and cannot be read.
    """
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as exc:
        raise ConfigError(
            f"Docker's configuration cannot be read: {type(exc).__name__}",
            hint="look at ~/.docker/config.json, or set DOCKER_HOST",
        ) from exc
    return content if isinstance(content, dict) else {}
