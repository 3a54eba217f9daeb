"""What stands in the way of a connection: one kind, one sentence, one next step."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import aiohttp

from executor.network.proxies import Proxy

_DATES: Final = frozenset({9, 10})
_ANOTHERS: Final = frozenset({62, 64})
"""OpenSSL's X509_V_ERR_NOT_YET_VALID, HAS_EXPIRED; HOSTNAME_MISMATCH, IP_ADDRESS_MISMATCH."""


class Obstacle(StrEnum):
    """Kinds of :class:`ConnectionProblem`, in the order in which a connection meets them."""

    NAME = "name"
    """The host's name, or the proxy's, is not known."""
    ROUTE = "route"
    """Nobody answers at the address, or the way there is closed."""
    PROXY = "proxy"
    """The proxy cannot be reached, or refuses."""
    PROXY_LOGIN = "proxy_login"
    """The proxy wants to know who asks."""
    TLS = "tls"
    """The other side speaks no TLS that both know."""
    CERTIFICATE = "certificate"
    """Its certificate is not trusted, or is another's."""
    ANSWER = "answer"
    """It answers, with an HTTP status that is none of success."""
    SILENCE = "silence"
    """It took too long."""
    CLOSED = "closed"
    """It closed the connection."""
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class ConnectionProblem:
    """Why a connection could not be made; without credentials."""

    kind: Obstacle
    message: str
    """One sentence, which names where it was to lead."""
    hint: str | None = None
    """What to do about it, where that can be told."""
    status: int | None = None
    """The HTTP status, where one was the answer."""

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


def diagnose(
    error: BaseException, *, where: str, proxy: Proxy | None = None, timeout_s: float | None = None
) -> ConnectionProblem:
    """Tell what aiohttp's *error* means.

    Libraries wrap the cause once or twice: the innermost error that says something counts.

    Args:
        error: What a request or a connection raised.
        where: How messages name the other side; without credentials.
        proxy: What was to lead there; ``None``: nothing.
        timeout_s: Within how many seconds it had to answer; ``None``: not to be mentioned.
    """
    chain = list(_causes(error))
    for cause in reversed(chain):
        if (problem := _of(cause, where, proxy)) is not None:
            return problem
    if any(isinstance(cause, TimeoutError) for cause in chain):
        within = f" within {timeout_s:g} s" if timeout_s is not None else " in time"
        return ConnectionProblem(
            Obstacle.SILENCE,
            f"{where} did not answer{within}",
            None if proxy else "where machines get out through a proxy only, set HTTPS_PROXY",
        )
    return ConnectionProblem(Obstacle.OTHER, f"no exchange with {where}: {type(error).__name__}")


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def _of(cause: BaseException, where: str, proxy: Proxy | None) -> ConnectionProblem | None:
    match cause:
        case aiohttp.ClientHttpProxyError() | aiohttp.ClientResponseError(status=407):
            return _proxy_refuses(cause, _way(where, proxy))
        case aiohttp.http_exceptions.HttpProcessingError():
            return ConnectionProblem(Obstacle.OTHER, f"{where} does not speak HTTP")
        case aiohttp.ClientResponseError():
            return ConnectionProblem(
                Obstacle.ANSWER, f"{where} answered HTTP {cause.status}", status=cause.status
            )
        case ssl.SSLCertVerificationError():
            return _untrusted(cause, where)
        case aiohttp.ClientSSLError() | ssl.SSLError():
            return ConnectionProblem(
                Obstacle.TLS, f"{where} does not speak TLS", "is it http:// instead of https://?"
            )
        case aiohttp.ClientConnectorError() if proxy and cause.host == proxy.url.host:
            return ConnectionProblem(
                Obstacle.PROXY,
                f"{_way(where, proxy)} cannot be reached: {_reason(cause.os_error)}",
                f"check {proxy.variable}; hosts that need no proxy belong into NO_PROXY",
            )
        case aiohttp.ClientConnectorError() if isinstance(cause.os_error, socket.gaierror):
            return ConnectionProblem(
                Obstacle.NAME,
                f"{where} cannot be reached: {_reason(cause.os_error)}",
                "check the host's name and this machine's DNS or VPN; "
                "where names are known to a proxy only, set HTTPS_PROXY",
            )
        case aiohttp.ClientConnectorError():
            return ConnectionProblem(
                Obstacle.ROUTE, f"{where} cannot be reached: {_reason(cause.os_error)}"
            )
        case aiohttp.ClientConnectionError():
            return ConnectionProblem(
                Obstacle.CLOSED, f"{where} closed the connection: {type(cause).__name__}"
            )
        case _:
            return None


def _way(where: str, proxy: Proxy | None) -> str:
    named = f", {proxy} of {proxy.variable}," if proxy is not None else ""
    return f"the proxy on the way to {where}{named}"


def _proxy_refuses(cause: aiohttp.ClientResponseError, way: str) -> ConnectionProblem:
    message = f"{way} answered HTTP {cause.status}"
    if cause.status != 407:
        hint = "ask whoever runs it to allow this address, or put its host into NO_PROXY"
        return ConnectionProblem(Obstacle.PROXY, message, hint, status=cause.status)
    offered = cause.headers.getall("Proxy-Authenticate", []) if cause.headers else []
    if offered and not any(way.lower().startswith("basic") for way in offered):
        ways = " or ".join(way.split(" ", 1)[0] for way in offered)
        hint = f"it takes {ways[:100]} only: run a local proxy that can do that, and name that one"
    else:
        hint = "put its user and password into the variable: http://user:password@host:port"
    return ConnectionProblem(Obstacle.PROXY_LOGIN, message, hint, status=cause.status)


def _untrusted(cause: ssl.SSLCertVerificationError, where: str) -> ConnectionProblem:
    message = f"the certificate of {where} is not trusted ({cause.verify_message or cause.reason})"
    hint = "a private authority is made known with SSL_CERT_FILE=<its certificate in PEM form>"
    if cause.verify_code in _DATES:
        hint = "check this machine's clock; if it is right, the certificate has to be renewed"
    elif cause.verify_code in _ANOTHERS:
        hint = "use the name that the certificate is made out to"
    return ConnectionProblem(Obstacle.CERTIFICATE, message, hint)


def _reason(error: OSError) -> str:
    return str(error.strerror or error)
