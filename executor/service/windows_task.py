"""The executor as a scheduled task of Windows, which starts when its user logs in.

The Task Scheduler has no watchdog, and it ends a program without telling it before: what runs then
is gone on with after the next start. Its own rule for tasks that fail (``RestartOnFailure``) starts
only those again that it could not start at all, not a program that has ended: a trigger looks every
minute instead, and a task that runs already is left alone. A stop has to disable the task, then.

The Task Scheduler may rewrite what it is given, so changes that somebody has made to the task
cannot be told from its own; only whether we have made it can.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from xml.etree import ElementTree as ET

from executor.service.definition import NAME, Service, ServiceStatus
from executor.service.own_files import MADE_BY, NotOurs
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
from shared.errors import ConfigError

NAMESPACE: Final = "http://schemas.microsoft.com/windows/2004/02/mit/task"
VERSION: Final = "1.2"
"""Of the schema: Windows Vista and later."""

LOOK_EVERY: Final = "PT1M"
"""After how long one that has ended is started again: the shortest that the schema allows."""

LOOK_SINCE: Final = "2000-01-01T00:00:00"
"""Since when: any time that is over."""

_INHERITED: Final = frozenset({"PATH"})
"""What a task has from its user's login without our doing."""

_NO_EXIT_STATUS: Final = frozenset({0x41301, 0x41303, 0x41306, 0x41325, 0x800710E0})
"""Results that are the Task Scheduler's own and no failure: it runs still, has never run, was
stopped by a user, waits to be started, was not started a second time."""

_QUERY: Final = (
    f"$t = Get-ScheduledTask -TaskName '{NAME}' -ErrorAction SilentlyContinue; "
    "if ($t) { @{ state = [string]$t.State; source = [string]$t.Source; "
    f"last = (Get-ScheduledTaskInfo -TaskName '{NAME}').LastTaskResult }} | ConvertTo-Json }}"
)
"""``schtasks /Query`` answers in the language of Windows; these names are always the same."""


def task_text(service: Service, user: str) -> str:
    """The task, as XML for ``schtasks /Create /XML``.

    Args:
        user: ``DOMAIN\\name`` of the user who logs in and whose rights the program has.

    Raises:
        ConfigError: The service needs a variable; a task cannot set any.
    """
    needed = sorted(service.environment.keys() - _INHERITED)
    if needed:
        raise ConfigError(
            f"a scheduled task cannot set {', '.join(needed)}",
            hint=f"set it for all your programs: setx {needed[0]} <value>, then log in again",
        )
    if not user:
        raise ConfigError(
            "USERNAME is not set: a task needs to know whose login starts it",
            hint="install from a terminal of the user who is to run it",
        )
    program, *arguments = service.command
    task = _element(
        "Task",
        _element(
            "RegistrationInfo",
            _element("Source", MADE_BY),
            _element("Description", "Wegent executor: runs coding agents for its backend"),
        ),
        _element(
            "Triggers",
            _element("LogonTrigger", _element("Enabled", "true"), _element("UserId", user)),
            _element(
                "TimeTrigger",
                _element("Enabled", "true"),
                _element("StartBoundary", LOOK_SINCE),
                _element("Repetition", _element("Interval", LOOK_EVERY)),
            ),
        ),
        _element(
            "Principals",
            _element(
                "Principal",
                _element("UserId", user),
                _element("LogonType", "InteractiveToken"),
                _element("RunLevel", "LeastPrivilege"),
                id="user",
            ),
        ),
        _element(
            "Settings",
            _element("MultipleInstancesPolicy", "IgnoreNew"),
            _element("DisallowStartIfOnBatteries", "false"),
            _element("StopIfGoingOnBatteries", "false"),
            _element("StartWhenAvailable", "true"),
            _element(
                "IdleSettings",
                _element("StopOnIdleEnd", "false"),
                _element("RestartOnIdle", "false"),
            ),
            _element("ExecutionTimeLimit", "PT0S"),  # none; otherwise three days
            _element("Priority", "6"),  # normal; otherwise below normal, for agents as well
        ),
        _element(
            "Actions",
            _element(
                "Exec",
                _element("Command", program),
                _element("Arguments", subprocess.list2cmdline(arguments)),
            ),
            Context="user",
        ),
        xmlns=NAMESPACE,
        version=VERSION,
    )
    ET.indent(task)
    body = ET.tostring(task, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-16"?>\n{body}\n'


class TaskSchedulerKeeper:
    """The Task Scheduler."""

    advice = (
        "It starts within a minute, and when you log in, in a window of its own; "
        "`wegent-executor service stop` keeps it from that."
    )

    def __init__(self, environ: Mapping[str, str], home: Path, *, run: Run = run_program) -> None:
        """*home* is where the task's file may lie while it is read."""
        self._user = "\\".join(filter(None, map(environ.get, ("USERDOMAIN", "USERNAME"))))
        self._file = home / f"{NAME}-task.xml"
        self._run = run

    def install(self, service: Service, *, force: bool) -> list[Step]:
        """Create the task anew."""
        text = task_text(service, self._user)
        if not force:
            self._ask_whether_ours()
        create = ("/Create", "/TN", NAME, "/XML", str(self._file), "/F")
        return [
            WriteFile(self._file, text, encoding="utf-16"),
            _schtasks(*create),
            RemoveFile(self._file),
        ]

    def uninstall(self, *, force: bool) -> list[Step]:
        """End and delete the task."""
        del force  # nobody's changes can be told
        if not self._ask_whether_ours():
            return []
        return [*self.stop(), _schtasks("/Delete", "/TN", NAME, "/F")]

    def start(self) -> list[Step]:
        """Run the task now, and from now on."""
        return [_schtasks("/Change", "/TN", NAME, "/ENABLE"), _schtasks("/Run", "/TN", NAME)]

    def stop(self) -> list[Step]:
        """End the program, without its having a chance to end its runs, and have it stay so."""
        return [
            _schtasks("/Change", "/TN", NAME, "/DISABLE"),
            _schtasks("/End", "/TN", NAME, may_fail=True),  # fails when it does not run
        ]

    def status(self) -> ServiceStatus:
        """Ask the Task Scheduler."""
        shown = self._ask()
        if not shown:
            return ServiceStatus("not installed")
        last = shown.get("last")
        running = shown.get("state") == "Running"
        ended = isinstance(last, int) and last not in _NO_EXIT_STATUS
        return ServiceStatus(
            "running" if running else "failed" if ended and last else "stopped",
            at_login=shown.get("state") != "Disabled",
            last_exit=last if isinstance(last, int) and ended and not running else None,
        )

    def _ask_whether_ours(self) -> bool:
        shown = self._ask()
        if shown and shown.get("source") != MADE_BY:
            raise NotOurs(f"the task {NAME} was not made by this program", hint="it stays")
        return bool(shown)

    def _ask(self) -> Mapping[str, object]:
        argv = ("powershell", "-NoProfile", "-NonInteractive", "-Command", _QUERY)
        answer = self._run(argv)
        if answer.returncode:
            raise failure(argv[:1], answer)
        try:
            shown = json.loads(answer.stdout or "{}")
        except ValueError:
            raise StepFailed("the Task Scheduler's answer cannot be read") from None
        return shown if isinstance(shown, dict) else {}


def _schtasks(*arguments: str, may_fail: bool = False) -> RunProgram:
    return RunProgram(("schtasks", *arguments), may_fail)


def _element(name: str, *content: ET.Element | str, **attributes: str) -> ET.Element:
    element = ET.Element(name, attributes)
    for item in content:
        if isinstance(item, str):
            element.text = item
        else:
            element.append(item)
    return element
