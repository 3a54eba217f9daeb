"""The executor as a service of systemd: a unit of the user's own, without root.

systemd knows when the executor is set up and whether it lives: ``executor/service/notify.py``.
"""

from __future__ import annotations

import getpass
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

from executor.exit_status import ExitStatus
from executor.service.definition import NAME, Service, ServiceStatus
from executor.service.own_files import MADE_BY, SEAL, NotOurs, owner, refuse_foreign, sealed
from executor.service.steps import (
    RemoveFile,
    Run,
    RunProgram,
    Step,
    StepFailed,
    WriteFile,
    failure,
    run_program,
)
from executor.service.timing import WATCHDOG_S
from shared.errors import ConfigError

UNIT: Final = f"{NAME}.service"

STARTED_BY: Final = "default.target"
"""What systemd starts at a login; who enables the unit gets a link to it in that one's folder."""

START_LIMIT_S: Final = 120
"""Until the executor is set up: it ends what a killed one has left running, and opens its store."""

LINGERING: Final = Path("/var/lib/systemd/linger")
"""Has a file for every user whose services run without a login."""

BOOTED: Final = Path("/run/systemd/system")
"""Is there when systemd has started the machine, says sd_booted(3)."""

OWN_CHANGES: Final = f"changes belong into `systemctl --user edit {NAME}`"

_STATES: Final[
    Mapping[str, Literal["running", "starting", "stopping", "stopped", "failed", "not installed"]]
] = {
    "active": "running",
    "reloading": "running",
    "activating": "starting",
    "deactivating": "stopping",
    "inactive": "stopped",
    "failed": "failed",
}

_KILLED: Final = ("2", "3")
"""``ExecMainCode`` of a process that a signal has ended: CLD_KILLED and CLD_DUMPED."""


def unit_text(service: Service) -> str:
    """The unit file.

    There is no ``After=network-online.target``: a user's units cannot wait for the system's. The
    executor tries until it has its backend.

    Raises:
        ConfigError: systemd cannot start a program with such a path.
    """
    program, *arguments = service.command
    command = " ".join([_program(program), *map(_argument, arguments)])
    environment = "".join(
        f"Environment={_quoted(f'{name}={value}')}\n"
        for name, value in sorted(service.environment.items())
    )
    hopeless = f"{ExitStatus.USAGE} {ExitStatus.REJECTED}"
    # The process that unpacks a single file is the one that systemd has started.
    speakers = "all" if service.unpacks_itself else "main"
    return sealed(f"""\
# {MADE_BY}, which replaces it.
# Own {OWN_CHANGES}. {SEAL}

[Unit]
Description=Wegent executor: runs coding agents for its backend

[Service]
Type=notify
NotifyAccess={speakers}
ExecStart={command}
{environment}\
# Settings and secrets are in config.env, which the program reads itself.
TimeoutStartSec={START_LIMIT_S}

# Starting again does not help when a setting is wrong or the backend refuses the token.
Restart=on-failure
RestartSec=5
RestartPreventExitStatus={hopeless}

# Said by contact with the backend, and by attempts to get it.
WatchdogSec={WATCHDOG_S:.0f}

# The executor alone is told to stop, and ends its agents; what is left after it is killed.
KillMode=mixed
TimeoutStopSec={service.stop_limit_s:.0f}
# An agent's command that takes too much memory costs that command, not the service.
OOMPolicy=continue

[Install]
WantedBy={STARTED_BY}
""")


class SystemdKeeper:
    """The user's own instance of systemd."""

    def __init__(self, environ: Mapping[str, str], *, run: Run = run_program) -> None:
        """*environ* names the user's folders; *run* runs ``systemctl``."""
        config = environ.get("XDG_CONFIG_HOME", "")
        base = Path(config) if Path(config).is_absolute() else Path.home() / ".config"
        self.unit = base / "systemd" / "user" / UNIT
        self.enabled = self.unit.parent / f"{STARTED_BY}.wants" / UNIT
        self._run = run

    @property
    def advice(self) -> str:
        """Whether it outlives the user's login."""
        if (LINGERING / getpass.getuser()).exists():
            return "It starts with the machine."
        return (
            "It starts when you log in and stops when you log out; to have it run always: "
            "loginctl enable-linger"
        )

    def install(self, service: Service, *, force: bool) -> list[Step]:
        """Write the unit and enable it."""
        text = unit_text(service)
        refuse_foreign(self.unit, force=force, own_changes=OWN_CHANGES)
        written = self.unit.is_file() and self.unit.read_bytes() == text.encode()
        if written and self.enabled.is_symlink():
            return []
        return [
            WriteFile(self.unit, text),
            _systemctl("daemon-reload"),
            _systemctl("enable", UNIT),
        ]

    def uninstall(self, *, force: bool) -> list[Step]:
        """Stop and disable the unit, and remove its file; not what an operator has added to it."""
        found = owner(self.unit)
        if found == "nobody":
            return []
        if found == "somebody":
            raise NotOurs(f"{self.unit} was not made by this program", hint="it stays")
        refuse_foreign(self.unit, force=force, own_changes=OWN_CHANGES)
        return [
            _systemctl("disable", "--now", UNIT),
            RemoveFile(self.unit),
            _systemctl("daemon-reload"),
        ]

    def start(self) -> list[Step]:
        """Returns when the executor has said that it is set up."""
        return [_systemctl("start", UNIT)]

    def stop(self) -> list[Step]:
        """Returns when the executor has ended."""
        return [_systemctl("stop", UNIT)]

    def status(self) -> ServiceStatus:
        """Ask systemd."""
        properties = (
            "LoadState,ActiveState,UnitFileState,MainPID,StatusText,ExecMainCode,ExecMainStatus"
        )
        argv = _systemctl("show", UNIT, f"--property={properties}").argv
        answer = self._run(argv)
        if answer.returncode:
            raise StepFailed(
                failure(argv, answer).message,
                hint="is this a login of your own? Not after sudo or su; over ssh it is",
            )
        shown = dict(line.partition("=")[::2] for line in answer.stdout.splitlines())
        if shown.get("LoadState") == "not-found":
            return ServiceStatus("not installed")
        pid = int(shown.get("MainPID") or 0)
        return ServiceStatus(
            _STATES.get(shown.get("ActiveState", ""), "failed"),
            at_login=shown.get("UnitFileState") == "enabled",
            pid=pid or None,
            says=(shown.get("StatusText") or None) if pid else None,
            last_exit=_last_exit(shown) if not pid else None,
        )


def runs_here() -> bool:
    """Whether this machine was started by systemd."""
    return BOOTED.is_dir()


def _systemctl(*arguments: str) -> RunProgram:
    return RunProgram(("systemctl", "--user", *arguments))


def _last_exit(shown: Mapping[str, str]) -> int | None:
    code, status = shown.get("ExecMainCode", "0"), int(shown.get("ExecMainStatus") or 0)
    if code == "0":  # it has not run yet
        return None
    return -status if code in _KILLED else status


def _program(path: str) -> str:
    if not os.path.isabs(path) or re.search(r"[\x00-\x1f\x7f\"'\\]", path):  # noqa: PTH117  # text
        raise ConfigError(
            f"systemd cannot start a program with this path: {path!r}",
            hint="it has to be absolute, without quotes, backslashes and control characters",
        )
    # Here, unlike in arguments, a $ stands for itself.
    return _quoted(path)


def _argument(text: str) -> str:
    return _quoted(text.replace("$", "$$"))


def _quoted(text: str) -> str:
    """One word of a unit file, in which ``%`` has no special meaning."""
    text = text.replace("%", "%%")
    if re.fullmatch(r"[\w@%+=:,./$-]+", text, re.ASCII):
        return text
    escaped = re.sub(r"[\"\\]", r"\\\g<0>", text)
    escaped = re.sub(r"[\x00-\x1f\x7f]", lambda found: f"\\x{ord(found[0]):02x}", escaped)
    return f'"{escaped}"'
