"""The executor as a service of macOS: an agent of the user's own launchd.

launchd has no watchdog, and cannot be told after which exit status not to start a program again:
it waits a minute between two starts instead. What it has been told to unload it unloads when the
program has ended, and some seconds later; until then nothing of that name can be loaded.
"""

from __future__ import annotations

import os
import plistlib
import re
from pathlib import Path
from typing import Final

from executor.service.definition import NAME, Service, ServiceStatus
from executor.service.own_files import MADE_BY, SEAL, NotOurs, owner, refuse_foreign, sealed
from executor.service.steps import RemoveFile, Run, RunProgram, Step, WriteFile, run_program

LABEL: Final = f"io.wegent.{NAME.removeprefix('wegent-')}"

START_AGAIN_AFTER_S: Final = 60

_NOT_YET: Final = (5, 37)
"""What ``launchctl bootstrap`` ends with as long as another of that name is being unloaded: EIO,
and EALREADY."""

OWN_CHANGES: Final = "launchd has no other place for changes"


def agent_text(service: Service) -> str:
    """The property list of the agent."""
    agent = {
        "Label": LABEL,
        "ProgramArguments": list(service.command),
        "EnvironmentVariables": dict(sorted(service.environment.items())),
        "RunAtLoad": True,
        "KeepAlive": {"SuccessfulExit": False},
        "ThrottleInterval": START_AGAIN_AFTER_S,
        # After SIGTERM; launchd's own limit is 20 s.
        "ExitTimeOut": round(service.stop_limit_s),
        # The program has its own log, which it rotates; launchd's would grow for ever.
        "StandardOutPath": "/dev/null",
        "StandardErrorPath": "/dev/null",
    }
    head, doctype, body = plistlib.dumps(agent, sort_keys=False).decode().split("\n", 2)
    mark = f"<!-- {MADE_BY}, which replaces it. {SEAL} -->"
    return sealed("\n".join([head, doctype, mark, body]))


class LaunchdKeeper:
    """The launchd of the user's graphical login."""

    advice = "It starts when you log in, and runs until you log out."

    def __init__(self, *, run: Run = run_program) -> None:
        """*run* runs ``launchctl``."""
        self.agent = Path.home() / "Library" / "LaunchAgents" / f"{LABEL}.plist"
        self._run = run
        self._domain = f"gui/{os.getuid()}"
        self._target = f"{self._domain}/{LABEL}"

    def install(self, service: Service, *, force: bool) -> list[Step]:
        """Write the agent's file, which launchd reads at the next login or at a start."""
        text = agent_text(service)
        refuse_foreign(self.agent, force=force, own_changes=OWN_CHANGES)
        if self.agent.is_file() and self.agent.read_bytes() == text.encode():
            return []
        return [WriteFile(self.agent, text), _launchctl("enable", self._target)]

    def uninstall(self, *, force: bool) -> list[Step]:
        """Stop it and remove its file."""
        found = owner(self.agent)
        if found == "nobody":
            return []
        if found == "somebody":
            raise NotOurs(f"{self.agent} was not made by this program", hint="it stays")
        refuse_foreign(self.agent, force=force, own_changes=OWN_CHANGES)
        return [*self.stop(), RemoveFile(self.agent)]

    def start(self) -> list[Step]:
        """Load it anew, which starts it, unless it runs."""
        shown = self._ask()
        if shown is not None and shown.get("state") == "running":
            return []
        return [
            *self.stop(),  # it may be loaded, and have ended well
            RunProgram(("launchctl", "bootstrap", self._domain, str(self.agent)), not_yet=_NOT_YET),
            # Loading it has started it, but for some hurries of launchd; then this fails.
            _launchctl("kickstart", self._target, may_fail=True),
        ]

    def stop(self) -> list[Step]:
        """Unload it, which stops it; the next login loads it again."""
        return [_launchctl("bootout", self._target, may_fail=True)]  # fails when it is not loaded

    def status(self) -> ServiceStatus:
        """Ask launchd."""
        if not self.agent.exists():
            return ServiceStatus("not installed")
        shown = self._ask()
        if shown is None:
            return ServiceStatus("stopped", at_login=True)
        state = shown.get("state", "")
        if state == "running" or state.startswith("SIG"):  # a signal has been sent to it
            pid = shown.get("pid", "")
            return ServiceStatus(
                "running" if state == "running" else "stopping",
                at_login=True,
                pid=int(pid) if pid.isdecimal() else None,
            )
        last = re.match(r"-?\d+", shown.get("last exit code", ""))
        return ServiceStatus(
            "failed" if last and int(last[0]) else "stopped",
            at_login=True,
            last_exit=int(last[0]) if last else None,
        )

    def _ask(self) -> dict[str, str] | None:
        """What launchd says of it; ``None``: it is not loaded."""
        answer = self._run(_launchctl("print", self._target).argv)
        if answer.returncode:
            return None
        lines = re.findall(r"^\t(state|pid|last exit code) = (.+)$", answer.stdout, re.MULTILINE)
        return dict(lines)


def _launchctl(*arguments: str, may_fail: bool = False) -> RunProgram:
    return RunProgram(("launchctl", *arguments), may_fail)
