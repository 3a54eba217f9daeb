"""What may be in the way to a server, in one sentence each, and what to do about it."""

from __future__ import annotations

import errno
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from executor.diagnosis import remedies
from executor.modes.local.backend_url import BackendUrl
from executor.network.problem import OTHER_HOST, OUT_OF_DATE, other_logins, reason_of
from executor.network.proxies import Proxy
from executor.network.trust import FILE_VARIABLE
from shared.errors import ConfigError

_NO_ROUTE: Final = frozenset({errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL})

_PROXY_EXAMPLE: Final = "http://host:port"


class Step(StrEnum):
    """A part of the way, in the order in which they are taken."""

    NAME = "name"
    CONNECTION = "connection"
    PROXY = "proxy"
    TLS = "TLS"
    HTTP = "HTTP"


class Blocked(Exception):
    """The way ends at *step*.

    Attributes:
        what: What is in the way.
        remedy: What to do about it.
    """

    def __init__(self, step: Step, what: str, remedy: str) -> None:
        super().__init__(what)
        self.step = step
        self.what = what
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class Target:
    """Where to, and the variable that says so."""

    url: BackendUrl
    setting: str

    def correct(self, example: str = "https://host[:port]") -> str:
        """The command that names another address."""
        return remedies.set_variable(self.setting, example)

    def name_a_proxy(self) -> str:
        """The command that names a proxy which leads there."""
        variable = "HTTPS_PROXY" if self.url.secure else "HTTP_PROXY"
        return remedies.set_variable(variable, _PROXY_EXAMPLE)


def unusable_setting(step: Step, error: ConfigError) -> Blocked:
    """A variable that is needed for *step* names nothing usable."""
    return Blocked(step, error.message, error.hint or "correct it")


def unknown_name(
    target: Target, proxy: Proxy | None, host: str, error: socket.gaierror | UnicodeError
) -> Blocked:
    """*host* has no address."""
    if not isinstance(error, socket.gaierror):
        return Blocked(Step.NAME, f"{host!r} is no name of a host", target.correct())
    what = f"{host} cannot be looked up: {reason_of(error)}"
    if error.errno == socket.EAI_AGAIN:
        remedy = "connect this machine to its network, or mend its name server"
    elif proxy:
        remedy = _correct(target, proxy)
    else:
        by_proxy = f"if only a proxy knows it: {target.name_a_proxy()}"
        remedy = f"if it is wrong: {target.correct()}; {by_proxy}"
    return Blocked(Step.NAME, what, remedy)


def unreachable(
    target: Target, proxy: Proxy | None, tried: Sequence[tuple[str, OSError]]
) -> Blocked:
    """None of the addresses can be connected to; *tried* says why, for each ``host:port``."""
    if all("[" in address and error.errno in _NO_ROUTE for address, error in tried):
        return Blocked(
            Step.CONNECTION,
            f"{name_of(proxy) if proxy else target.url} has IPv6 addresses only ({tried[0][0]}), "
            "and this machine has no way to IPv6",
            f"name a host that has an IPv4 address: {_correct(target, proxy)}",
        )
    who = name_of(proxy) if proxy else str(target.url)
    reasons = ", ".join(f"{address}: {reason_of(error)}" for address, error in tried)
    refused = any(error.errno == errno.ECONNREFUSED for _, error in tried)
    remedy = "start it there" if refused else "check the network and its firewall"
    return Blocked(
        Step.CONNECTION,
        f"{who} cannot be reached ({reasons})",
        f"{remedy}, or name another address: {_correct(target, proxy)}",
    )


def untrusted(
    target: Target, name: str, step: Step, error: ssl.SSLCertVerificationError
) -> Blocked:
    """The certificate of *name* is not accepted."""
    what = f"the certificate of {name} is not trusted: {error.verify_message}"
    if error.verify_code in OUT_OF_DATE:
        remedy = f"have it renewed, or if this clock is wrong: {remedies.set_the_clock()}"
    elif error.verify_code in OTHER_HOST:
        remedy = f"name the host as the certificate does: {target.correct()}"
    else:
        remedy = remedies.set_variable(FILE_VARIABLE, "/path/to/the-authority.pem")
    return Blocked(step, what, remedy)


def no_tls(target: Target, name: str, step: Step, error: Exception) -> Blocked:
    """*name* answers, but not in TLS."""
    return Blocked(
        step,
        f"{name} does not speak TLS ({reason_of(error)})",
        f"if it has none: {target.correct('http://host[:port]')}",
    )


def no_http(target: Target, error: Exception) -> Blocked:
    """The server answers, but not in HTTP."""
    example = "https://host[:port]"
    return Blocked(
        Step.HTTP,
        f"{target.url} does not answer in HTTP ({reason_of(error)})",
        target.correct(example) if target.url.secure else f"if it has TLS: {target.correct()}",
    )


def no_proxy(proxy: Proxy, error: Exception) -> Blocked:
    """What is named as a proxy is none."""
    return Blocked(
        Step.PROXY,
        f"{name_of(proxy)} does not answer as a proxy ({reason_of(error)})",
        remedies.set_variable(proxy.variable, _PROXY_EXAMPLE),
    )


def refused_by_proxy(proxy: Proxy, host: str, status: int, logins: Sequence[str] = ()) -> Blocked:
    """The proxy answers a request for *host* with *status*, which is not 200.

    *logins*: its headers ``Proxy-Authenticate``.
    """
    around = f"or if it can be reached without: {remedies.add_to_no_proxy(host)}"
    match status:
        case 407 if ways := other_logins(logins):
            what = f"takes no login but {ways}"
            example = remedies.set_variable(proxy.variable, _PROXY_EXAMPLE)
            remedy = f"run a local proxy that can do that, and name that one: {example}"
        case 407:
            what = "does not accept the login given" if proxy.url.raw_user else "wants a login"
            example = f"{proxy.url.scheme}://USER:PASSWORD@{proxy}"
            remedy = remedies.set_variable(proxy.variable, example)
        case 403:
            what, remedy = f"forbids {host}", f"have it allowed there, {around}"
        case 502 | 503 | 504:
            what, remedy = f"cannot reach {host}", f"check the address, {around}"
        case _:
            what = f"does not lead to {host}"
            remedy = remedies.set_variable(proxy.variable, _PROXY_EXAMPLE)
    return Blocked(Step.PROXY, f"{name_of(proxy)} {what} (HTTP {status})", remedy)


def no_answer(target: Target, proxy: Proxy | None, step: Step, limit_s: float) -> Blocked:
    """*step* takes too long."""
    remedy = "check the network and its firewall"
    if proxy is None:
        remedy += f", or set the proxy that leads out of it: {target.name_a_proxy()}"
    return Blocked(step, f"no answer from {target.url} within {limit_s:g} s", remedy)


def name_of(proxy: Proxy) -> str:
    """How sentences call it."""
    return f"the proxy {proxy} ({proxy.variable})"


def _correct(target: Target, proxy: Proxy | None) -> str:
    return remedies.set_variable(proxy.variable, _PROXY_EXAMPLE) if proxy else target.correct()
