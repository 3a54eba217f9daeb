"""All checks at once, each bounded in time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, ParamSpec

from executor.config.loading import Settings
from executor.config.local import LocalSettings
from executor.diagnosis.backend import look_at_backend
from executor.diagnosis.containers import look_at_containers, look_at_docker
from executor.diagnosis.disk import look_at_disks
from executor.diagnosis.finding import Finding, failed
from executor.diagnosis.home import look_at_folders
from executor.diagnosis.model_api import look_at_api
from executor.diagnosis.port import look_at_port
from executor.diagnosis.programs import (
    look_at_claude,
    look_at_git,
    look_at_sandbox,
)
from executor.diagnosis.running import look_at_running
from executor.diagnosis.settings import SettingsRead

LIMIT_S: Final = 9.5
"""For every check. They bound their own steps, so this is met only when the system hangs."""

_LONGER_S: Final = {"Claude Code": 60.0}
"""For a check whose first time takes longer: a program that carries the CLI unpacks it then, in 9 s
where nothing else goes on."""

_ADDRESSES: Final = {"backend": "WEGENT_BACKEND_URL", "Claude API": "ANTHROPIC_BASE_URL"}
"""Where checks go to: nowhere, when that is wrong."""

Check = Callable[[], Awaitable[Sequence[Finding]]]
P = ParamSpec("P")


async def examine(read: SettingsRead, environ: Mapping[str, str]) -> list[Finding]:
    """Everything that can be looked at with the settings as they are; never raises."""
    checks = _checks_of_machine(environ)
    if read.settings is not None:
        checks = _checks_of_settings(read.settings, read.wrong, environ) | checks
    return [*read.findings, *await carry_out(checks)]


async def carry_out(checks: Mapping[str, Check], *, limit_s: float = LIMIT_S) -> list[Finding]:
    """What *checks* find, in their order; never raises.

    They run at the same time. One that takes longer than *limit_s* seconds or breaks is a finding
    under its name, and costs none of the others'. What may have to unpack a program has a minute.
    """
    limits = {name: max(limit_s, _LONGER_S.get(name, 0)) for name in checks}
    found = await asyncio.gather(
        *(_one(name, check, limits[name]) for name, check in checks.items())
    )
    return [finding for findings in found for finding in findings]


def _checks_of_settings(
    settings: Settings, wrong: frozenset[str], environ: Mapping[str, str]
) -> dict[str, Check]:
    workspace = settings.only_session_dir or settings.workspace_root
    folders: tuple[Path, ...] = (settings.home, workspace, settings.log_dir)
    checks: dict[str, Check] = {
        "home": _in_thread(look_at_folders, settings),
        "executor": _in_thread(look_at_running, settings.home),
        "disk": _in_thread(look_at_disks, folders),
    }
    if isinstance(settings, LocalSettings):
        url = settings.backend_url
        token = None if "WEGENT_AUTH_TOKEN" in wrong else settings.auth_token
        checks["backend"] = lambda: look_at_backend(url, token, environ)
    else:
        checks["port"] = _in_thread(look_at_port, settings.host, settings.port, settings.home)
    checks |= {
        "Claude Code": _in_thread(look_at_claude, settings.claude_path, settings.home, environ),
        "Claude API": lambda: look_at_api(settings, environ),
        "sandbox": _in_thread(look_at_sandbox, settings.isolation, environ),
    }
    if isinstance(settings, LocalSettings) and settings.isolation == "container":
        image = settings.executor_image
        checks["containers"] = lambda: _of(look_at_containers(image, environ))
        del checks["Claude Code"]  # it is in the image
    return {name: check for name, check in checks.items() if _ADDRESSES.get(name) not in wrong}


def _checks_of_machine(environ: Mapping[str, str]) -> dict[str, Check]:
    return {
        "git": _in_thread(look_at_git, environ),
        "Docker": lambda: _of(look_at_docker(environ)),
    }


async def _of(finding: Awaitable[Finding]) -> Sequence[Finding]:
    return [await finding]


def _in_thread(
    look: Callable[P, Finding | list[Finding]], *args: P.args, **kwargs: P.kwargs
) -> Check:
    async def check() -> Sequence[Finding]:
        found = await asyncio.to_thread(look, *args, **kwargs)
        return [found] if isinstance(found, Finding) else found

    return check


async def _one(name: str, check: Check, limit_s: float) -> Sequence[Finding]:
    try:
        async with asyncio.timeout(limit_s):
            return await check()
    except TimeoutError:
        what = f"could not be looked at within {limit_s:g} s"
        return [failed(name, what, "look again when this machine has less to do")]
    except Exception as exc:  # noqa: BLE001  whatever it is must not cost the other findings
        what = f"could not be looked at: {type(exc).__name__}: {exc}"
        return [failed(name, what, "report it, with what this makes: wegent-executor bundle")]
