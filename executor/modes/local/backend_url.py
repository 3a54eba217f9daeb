"""Where the backend is, how to get there, and what to tell a person when that fails."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import urlsplit
from urllib.request import getproxies_environment, proxy_bypass

import aiohttp

from shared.protocol.local import SOCKETIO_PATH

_SCHEMES = {"http": "http", "https": "https", "ws": "http", "wss": "https"}


@dataclass(frozen=True, slots=True)
class BackendUrl:
    """``WEGENT_BACKEND_URL``, taken apart. As text it shows neither credentials nor query."""

    origin: str = field(repr=False)
    """Scheme, host, port, and whatever credentials and query the operator gave."""
    host: str
    """Host and port, as a proxy exception names them."""
    secure: bool
    prefix: str
    """Path before ``/socket.io``, without slashes at the ends; empty for none."""

    @classmethod
    def parse(cls, url: str) -> Self:
        """Read ``http(s)`` or ``ws(s)``.

        Raises:
            ValueError: It is neither, or names no host; the message does not repeat it.
        """
        parts = urlsplit(url.strip())
        scheme = _SCHEMES.get(parts.scheme.lower())
        if scheme is None or not parts.hostname:
            raise ValueError("must be http(s)://host[:port][/path] or ws(s)://…")
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        if parts.port is not None:
            host += f":{parts.port}"
        query = f"/?{parts.query}" if parts.query else ""
        return cls(
            origin=f"{scheme}://{parts.netloc}{query}",
            host=host,
            secure=scheme == "https",
            prefix=parts.path.strip("/"),
        )

    def __str__(self) -> str:
        scheme = "https" if self.secure else "http"
        return f"{scheme}://{self.host}" + (f"/{self.prefix}" if self.prefix else "")

    @property
    def socketio_path(self) -> str:
        """Where Socket.IO answers."""
        return f"{self.prefix}/{SOCKETIO_PATH}" if self.prefix else SOCKETIO_PATH

    def proxy(self) -> str | None:
        """The proxy that ``HTTP(S)_PROXY``, ``ALL_PROXY`` and ``NO_PROXY`` give, if any."""
        proxies = getproxies_environment()
        if not proxies or proxy_bypass(self.host):
            return None
        return proxies.get("https" if self.secure else "http") or proxies.get("all") or None


def explain(url: BackendUrl, error: BaseException, timeout_s: float) -> str:
    """Why a connection could not be made, as one sentence with a next step where there is one.

    The libraries wrap the cause once or twice: the innermost error that says something counts.
    """
    chain = [error]
    while (inner := chain[-1].__cause__ or chain[-1].__context__) is not None:
        chain.append(inner)
    for cause in reversed(chain):
        match cause:
            case aiohttp.ClientHttpProxyError():
                return f"the proxy on the way to {url} answered HTTP {cause.status}"
            case aiohttp.WSServerHandshakeError(status=200):
                return f"{url} answers, but not as a backend: is WEGENT_BACKEND_URL right?"
            case aiohttp.WSServerHandshakeError():
                return f"{url} answered HTTP {cause.status}: is WEGENT_BACKEND_URL right?"
            case ssl.SSLCertVerificationError():
                return (
                    f"the certificate of {url} is not trusted ({cause.verify_message}); a private "
                    "authority is made known with SSL_CERT_FILE"
                )
            case aiohttp.ClientSSLError() | ssl.SSLError():
                return f"{url} does not speak TLS: is it http:// instead of https://?"
            case aiohttp.ClientProxyConnectionError():
                return f"the proxy on the way to {url} cannot be reached: {_system_reason(cause)}"
            case aiohttp.ClientConnectorError():
                return f"{url} cannot be reached: {_system_reason(cause)}"
            case aiohttp.ClientConnectionError():
                return f"{url} closed the connection: {type(cause).__name__}"
            case _:
                continue
    if any(isinstance(cause, TimeoutError) for cause in chain):
        return f"{url} did not answer within {timeout_s:g} s"
    return f"{url} does not speak Socket.IO 5 ({type(error).__name__})"


def _system_reason(error: aiohttp.ClientConnectorError) -> str:
    reason = error.os_error
    return str(reason.strerror or reason)
