"""Does the backend let this executor in? Connects with the token, and does not register.

Registering would end the connection of an executor that is running with the same home.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

from pydantic import SecretStr

from executor.diagnosis import remedies
from executor.diagnosis.finding import Finding, failed, ok, warning
from executor.diagnosis.obstacles import Blocked, Step, Target, unusable_setting
from executor.diagnosis.route import Route, open_route
from executor.modes.local.backend_url import BackendUrl
from executor.modes.local.websocket_client import WebSocketClient
from executor.network.proxies import Proxies
from executor.network.trust import trusting_context
from shared.errors import ConfigError, LinkLost, LinkRejected
from shared.protocol.local import NAMESPACE

CONNECT_WITHIN_S: Final = 4.0
"""An executor that runs waits longer; whoever looks at this does not."""

CLOCK_MAY_BE_OFF_S: Final = 30.0
"""The backend's answer tells whole seconds, and was on its way for some."""


async def look_at_backend(
    url: str, token: SecretStr | None, environ: Mapping[str, str]
) -> list[Finding]:
    """Every step to the backend, up to the first that fails.

    Args:
        url: The value of ``WEGENT_BACKEND_URL``.
        token: ``None``: there is none to try; the way is looked at all the same.
        environ: Where proxies and authorities are read from.
    """
    target = Target(BackendUrl.parse(url), "WEGENT_BACKEND_URL")
    try:
        trust = await asyncio.to_thread(trusting_context, environ)
    except ConfigError as exc:
        return [_blocked(unusable_setting(Step.TLS, exc))]
    async with open_route(target, Proxies(environ), trust) as route:
        try:
            await route.take()
            headers = await route.ask()
        except Blocked as exc:
            return [*_passed(route), _blocked(exc)]
    let_in = [] if token is None else await _let_in(url, token, target)
    return [*_passed(route), *let_in, *_clock(headers.get("date"))]


def _passed(route: Route) -> list[Finding]:
    return [ok(f"backend {step}", what) for step, what in route.passed]


def _blocked(blocked: Blocked) -> Finding:
    return failed(f"backend {blocked.step}", blocked.what, blocked.remedy)


async def _let_in(url: str, token: SecretStr, target: Target) -> list[Finding]:
    client = WebSocketClient(url, token, connect_timeout_s=CONNECT_WITHIN_S)
    namespace = ok("backend namespace", f"{NAMESPACE} is there")
    try:
        async with client.connect(_take_nothing):
            return [namespace, ok("backend token", "is accepted")]
    except LinkRejected as exc:
        remedy = remedies.set_variable("WEGENT_AUTH_TOKEN", "the-token-that-the-backend-gave-out")
        return [namespace, failed("backend token", exc.message, remedy)]
    except LinkLost as exc:
        return [failed("backend namespace", exc.message, target.correct())]


async def _take_nothing(_event: str, _payload: object) -> dict[str, Any]:
    return {"success": False}


def _clock(date: str | None) -> list[Finding]:
    """This machine's clock beside the backend's; nothing when the backend does not tell."""
    try:
        there = parsedate_to_datetime(date or "")
    except ValueError:
        return []
    if there.tzinfo is None:
        there = there.replace(tzinfo=UTC)
    ahead_s = (datetime.now(UTC) - there).total_seconds()
    if abs(ahead_s) < CLOCK_MAY_BE_OFF_S:
        return [ok("clock", "agrees with the backend's")]
    side = "ahead of" if ahead_s > 0 else "behind"
    what = f"{abs(ahead_s):.0f} s {side} the backend's"
    return [warning("clock", what, remedies.set_the_clock())]
