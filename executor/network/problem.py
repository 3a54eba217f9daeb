"""What stands in the way of a connection: one kind, one sentence, one next step."""

from __future__ import annotations

import os
import socket
import ssl
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import aiohttp

from executor.network.proxies import Proxy

OUT_OF_DATE: Final = frozenset({9, 10})
"""Why a certificate is not trusted: X509_V_ERR_CERT_NOT_YET_VALID and _CERT_HAS_EXPIRED."""

OTHER_HOST: Final = frozenset({62, 64})
"""The same: X509_V_ERR_HOSTNAME_MISMATCH and _IP_ADDRESS_MISMATCH."""


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


def reason_of(error: BaseException) -> str:
    """What the system or a library says of *error*, without numbers and addresses."""
    if isinstance(error, ssl.SSLError):
        return str(error.reason or error).replace("_", " ").lower()
    if isinstance(error, socket.gaierror):  # its numbers are not the system's
        return str(error.strerror or error)
    if isinstance(error, OSError) and error.errno and sys.platform != "win32":
        return os.strerror(error.errno)  # asyncio puts words of its own in the place of these
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, EOFError):
        return "it closed the connection"
    return str(error) or type(error).__name__


def other_logins(offered: Sequence[str]) -> str | None:
    """How a proxy wants its login, like ``Negotiate or NTLM``; ``None``: as user and password.

    Args:
        offered: The headers ``Proxy-Authenticate`` of its answer.
    """
    ways = [way.split(" ", 1)[0] for way in offered if way.strip()]
    if not ways or any(way.lower() == "basic" for way in ways):
        return None
    return " or ".join(ways)[:100]


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def _of(cause: BaseException, where: str, proxy: Proxy | None) -> ConnectionProblem | None:
    match cause:
        case aiohttp.ClientHttpProxyError() | aiohttp.ClientResponseError(status=407):
            return _proxy_refuses(cause, where, proxy)
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
                f"{_way(where, proxy)} cannot be reached: {reason_of(cause.os_error)}",
                f"check {proxy.variable}; hosts that need no proxy belong into NO_PROXY",
            )
        case aiohttp.ClientConnectorError() if isinstance(cause.os_error, socket.gaierror):
            return ConnectionProblem(
                Obstacle.NAME,
                f"{where} cannot be reached: {reason_of(cause.os_error)}",
                "check the host's name and this machine's DNS or VPN; "
                "where names are known to a proxy only, set HTTPS_PROXY",
            )
        case aiohttp.ClientConnectorError():
            return ConnectionProblem(
                Obstacle.ROUTE, f"{where} cannot be reached: {reason_of(cause.os_error)}"
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


def _proxy_refuses(
    cause: aiohttp.ClientResponseError, where: str, proxy: Proxy | None
) -> ConnectionProblem:
    message = f"{_way(where, proxy)} answered HTTP {cause.status}"
    if cause.status != 407:
        hint = "ask whoever runs it to allow this address, or put its host into NO_PROXY"
        return ConnectionProblem(Obstacle.PROXY, message, hint, status=cause.status)
    offered = cause.headers.getall("Proxy-Authenticate", []) if cause.headers else []
    if ways := other_logins(offered):
        hint = f"it takes {ways} only: run a local proxy that can do that, and name that one"
    elif proxy is not None and proxy.url.raw_user:
        hint = "it does not take the login given; in it, write special characters as %XX"
    else:
        hint = "put its user and password into the variable: http://user:password@host:port"
    return ConnectionProblem(Obstacle.PROXY_LOGIN, message, hint, status=cause.status)


def _untrusted(cause: ssl.SSLCertVerificationError, where: str) -> ConnectionProblem:
    message = f"the certificate of {where} is not trusted ({cause.verify_message or cause.reason})"
    hint = "a private authority is made known with SSL_CERT_FILE=<its certificate in PEM form>"
    if cause.verify_code in OUT_OF_DATE:
        hint = "check this machine's clock; if it is right, the certificate has to be renewed"
    elif cause.verify_code in OTHER_HOST:
        hint = "use the name that the certificate is made out to"
    return ConnectionProblem(Obstacle.CERTIFICATE, message, hint)
