"""Whose key or login does Claude Code use, and does its API answer? Nothing is asked that costs."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import sys
from collections.abc import Mapping
from typing import Final

from executor.config.settings import ExecutorSettings
from executor.diagnosis.finding import Finding, failed, ok, warning
from executor.diagnosis.obstacles import Blocked, Step, Target, unusable_setting
from executor.diagnosis.remedies import set_variable
from executor.diagnosis.route import open_route
from executor.modes.local.backend_url import BackendUrl
from executor.network.children import children_environment
from executor.network.problem import reason_of
from executor.network.proxies import Proxies
from executor.network.trust import trusting_context
from executor.tasks.agent_environment import users_claude_state
from executor.tasks.allowed_hosts import API_URL
from shared.containers.spec import HOST_NAME
from shared.errors import ConfigError

_AUTHORITY: Final = "NODE_EXTRA_CA_CERTS"
"""What Claude Code trusts beside the system's authorities."""

_LOGIN_TOKEN: Final = "CLAUDE_CODE_OAUTH_TOKEN"  # noqa: S105 - a name
_LOGIN_FILE: Final = ".credentials.json"
_KEYCHAIN: Final = ("/usr/bin/security", "find-generic-password", "-s", "Claude Code-credentials")
"""Whether the entry is there; without ``-w`` it does not show what is in it. Claude Code's own
name for it."""

_KEYCHAIN_WITHIN_S: Final = 3.0


async def look_at_api(settings: ExecutorSettings, environ: Mapping[str, str]) -> list[Finding]:
    """Key or login, and the way to the API."""
    credentials = await asyncio.to_thread(_credentials, settings, environ)
    url = BackendUrl.parse(settings.anthropic_base_url or API_URL)
    if settings.isolation == "container" and url.host.partition(":")[0] == HOST_NAME:
        return [credentials, ok("Claude API", f"{url} is known in containers only: not looked at")]
    blocked = await _blocked(url, environ)
    if blocked is None:
        return [credentials, ok("Claude API", f"{url} can be reached")]
    say = failed if credentials.remedy is None else warning  # tasks may name other APIs
    return [credentials, say("Claude API", blocked.what, blocked.remedy)]


async def _blocked(url: BackendUrl, environ: Mapping[str, str]) -> Blocked | None:
    """What is in the way to the API; ``None``: nothing."""
    try:
        trust = await asyncio.to_thread(_trust, environ)
        target = Target(url, "ANTHROPIC_BASE_URL")
        async with open_route(target, Proxies(environ), trust) as route:
            await route.take()
    except ConfigError as exc:
        return unusable_setting(Step.TLS, exc)
    except Blocked as exc:
        return exc
    return None


def _trust(environ: Mapping[str, str]) -> ssl.SSLContext:
    context = trusting_context(environ)
    # Claude Code gets variables of its own, which are made of the executor's.
    if file := children_environment(environ).get(_AUTHORITY):
        try:
            context.load_verify_locations(cafile=file)
        except OSError as exc:
            raise ConfigError(f"{_AUTHORITY}: {file} cannot be used: {reason_of(exc)}") from None
    return context


def _credentials(settings: ExecutorSettings, environ: Mapping[str, str]) -> Finding:
    check = "key or login"
    if settings.anthropic_api_key:
        return ok(check, "ANTHROPIC_API_KEY is set")
    if settings.anthropic_auth_token:
        return ok(check, "ANTHROPIC_AUTH_TOKEN is set")
    if environ.get(_LOGIN_TOKEN):
        return ok(check, f"{_LOGIN_TOKEN} is set")
    if settings.isolation == "container":
        what = "there is none, and containers know no login: only tasks that bring a key can run"
        return warning(check, what, set_variable("ANTHROPIC_API_KEY", "your-key"))
    state = users_claude_state(environ)
    if state is not None and (state / _LOGIN_FILE).is_file():
        return ok(check, f"the login of this user, in {state / _LOGIN_FILE}")
    if sys.platform == "darwin" and _in_keychain():
        return ok(check, "the login of this user, in the keychain")
    return warning(
        check,
        "there is none: only tasks that bring a key can run",
        f"{set_variable('ANTHROPIC_API_KEY', 'your-key')}, or: claude auth login",
    )


def _in_keychain() -> bool:
    try:
        done = subprocess.run(  # noqa: S603 - fixed arguments
            _KEYCHAIN, capture_output=True, timeout=_KEYCHAIN_WITHIN_S, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return done.returncode == 0
