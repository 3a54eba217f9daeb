"""The task for Windows: with no Task Scheduler to ask, its XML is held against the schema."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final
from xml.etree import ElementTree as ET

import pytest

from executor.service.definition import Service, ServiceStatus
from executor.service.own_files import MADE_BY, NotOurs
from executor.service.steps import RunProgram, WriteFile, perform
from executor.service.windows_task import NAMESPACE, TaskSchedulerKeeper, task_text
from shared.errors import ConfigError

PROGRAM = r"C:\Users\Zoë & Co\<x>\wegent-executor.exe"
SERVICE = Service((PROGRAM, "run"), False, {"PATH": r"C:\Windows"}, 90)
USER = {"USERDOMAIN": "DÖM", "USERNAME": "zoë"}

SCHEMA: Final[Mapping[str, tuple[str, ...]]] = {
    "Task": ("RegistrationInfo", "Triggers", "Settings", "Data", "Principals", "Actions"),
    "RegistrationInfo": (
        "URI", "SecurityDescriptor", "Source", "Date", "Author", "Version", "Description",
        "Documentation",
    ),
    "Triggers": ("LogonTrigger", "TimeTrigger"),
    "LogonTrigger": (
        "Enabled", "StartBoundary", "EndBoundary", "Repetition", "ExecutionTimeLimit",
        "UserId", "Delay",
    ),
    "TimeTrigger": (
        "Enabled", "StartBoundary", "EndBoundary", "Repetition", "ExecutionTimeLimit",
        "RandomDelay",
    ),
    "Repetition": ("Interval", "Duration", "StopAtDurationEnd"),
    "Principals": ("Principal",),
    "Principal": (
        "UserId", "LogonType", "GroupId", "DisplayName", "RunLevel", "ProcessTokenSidType",
        "RequiredPrivileges",
    ),
    "Settings": (
        "AllowStartOnDemand", "RestartOnFailure", "MultipleInstancesPolicy",
        "DisallowStartIfOnBatteries", "StopIfGoingOnBatteries", "AllowHardTerminate",
        "StartWhenAvailable", "NetworkProfileName", "RunOnlyIfNetworkAvailable", "WakeToRun",
        "Enabled", "Hidden", "DeleteExpiredTaskAfter", "IdleSettings", "NetworkSettings",
        "ExecutionTimeLimit", "Priority", "RunOnlyIfIdle",
    ),
    "IdleSettings": ("Duration", "WaitTimeout", "StopOnIdleEnd", "RestartOnIdle"),
    "Actions": ("Exec",),
    "Exec": ("Command", "Arguments", "WorkingDirectory"),
}  # fmt: skip
"""Which elements may be in which, as of version 1.2: [MS-TSCH] 2.5, and task-scheduler-schema."""

SEQUENCES = ("LogonTrigger", "TimeTrigger")
"""Whose elements have to be in this order; those of all others may be in any."""

VALUES: Final[Mapping[str, tuple[str, ...]]] = {
    "LogonType": ("S4U", "Password", "InteractiveToken", "InteractiveTokenOrPassword"),
    "RunLevel": ("LeastPrivilege", "HighestAvailable"),
    "MultipleInstancesPolicy": ("Parallel", "Queue", "IgnoreNew", "StopExisting"),
    "Interval": ("PT1M",),  # the shortest that is allowed
    "Priority": tuple(map(str, range(11))),
    **dict.fromkeys(
        ("Enabled", "DisallowStartIfOnBatteries", "StopIfGoingOnBatteries", "StartWhenAvailable",
         "StopOnIdleEnd", "RestartOnIdle"),
        ("true", "false"),
    ),
}  # fmt: skip


class Windows:
    """Takes the calls of programs of Windows; PowerShell tells of *task*."""

    def __init__(self, task: object = None) -> None:
        self.calls: list[list[str]] = []
        self._task = "" if task is None else json.dumps(task)

    def __call__(self, argv: Sequence[str]) -> subprocess.CompletedProcess[str]:
        self.calls.append(list(argv))
        return subprocess.CompletedProcess(argv, 0, self._task if "powershell" in argv else "", "")


def parsed(service: Service = SERVICE) -> ET.Element:
    """The task as a parser that minds namespaces reads it from the file."""
    text = task_text(service, r"DÖM\zoë").replace("UTF-16", "UTF-8", 1)
    return ET.fromstring(text.encode())


def name_of(element: ET.Element) -> str:
    assert element.tag.startswith(f"{{{NAMESPACE}}}")
    return element.tag.removeprefix(f"{{{NAMESPACE}}}")


def test_every_element_is_where_the_schema_has_it() -> None:
    task = parsed()
    assert (name_of(task), task.get("version")) == ("Task", "1.2")
    for element in task.iter():
        inner = [name_of(child) for child in element]
        known = SCHEMA.get(name_of(element), ())
        assert set(inner) <= set(known)
        assert len(inner) == len(set(inner))
        if name_of(element) in SEQUENCES:
            assert inner == sorted(inner, key=known.index)
        if not inner:
            text = element.text or ""
            assert text in VALUES.get(name_of(element), (text,))
            assert text


def test_the_principal_of_the_action_is_the_one_that_is_defined() -> None:
    task = parsed()
    actions = task.find(f"{{{NAMESPACE}}}Actions")
    principal = task.find(f".//{{{NAMESPACE}}}Principal")
    assert actions is not None
    assert principal is not None
    assert actions.get("Context") == principal.get("id") == "user"


def test_the_task_starts_the_program_at_the_users_login_for_as_long_as_it_likes() -> None:
    values = {name_of(element): element.text for element in parsed().iter()}
    assert values["Command"] == PROGRAM
    assert values["Arguments"] == "run"
    assert values["UserId"] == r"DÖM\zoë"
    assert values["ExecutionTimeLimit"] == "PT0S"
    assert values["DisallowStartIfOnBatteries"] == values["StopIfGoingOnBatteries"] == "false"
    assert values["RunLevel"] == "LeastPrivilege"


def test_one_that_has_ended_is_started_again_within_a_minute_for_ever() -> None:
    """What the Task Scheduler calls a failure is a program that it cannot start, and no other."""
    task = parsed()
    trigger = task.find(f".//{{{NAMESPACE}}}TimeTrigger")
    assert trigger is not None
    values = {name_of(element): element.text for element in trigger.iter()}
    assert values["Interval"] == "PT1M"
    assert {"Duration", "EndBoundary"}.isdisjoint(values)  # it never ends
    assert datetime.fromisoformat(values["StartBoundary"] or "") < datetime.now()  # noqa: DTZ005
    policy = task.findtext(f".//{{{NAMESPACE}}}MultipleInstancesPolicy")
    assert policy == "IgnoreNew"  # while it runs, nothing happens


def test_what_was_stopped_stays_so_until_it_is_started(tmp_path: Path) -> None:
    keeper = TaskSchedulerKeeper(USER, tmp_path, run=Windows())
    task = ("/TN", "wegent-executor")
    assert keeper.stop() == [
        RunProgram(("schtasks", "/Change", *task, "/DISABLE")),
        RunProgram(("schtasks", "/End", *task), may_fail=True),
    ]
    assert keeper.start() == [
        RunProgram(("schtasks", "/Change", *task, "/ENABLE")),
        RunProgram(("schtasks", "/Run", *task)),
    ]


def test_a_home_of_ones_own_has_to_be_set_for_all_programs() -> None:
    elsewhere = {"PATH": "x", "WEGENT_EXECUTOR_HOME": r"D:\we"}
    with pytest.raises(ConfigError, match="setx WEGENT_EXECUTOR_HOME"):
        task_text(Service((PROGRAM, "run"), False, elsewhere, 90), "me")


def test_the_file_that_schtasks_reads_is_utf_16_and_goes_again(tmp_path: Path) -> None:
    read: list[ET.Element] = []

    def schtasks(argv: Sequence[str]) -> subprocess.CompletedProcess[str]:
        assert argv[:4] == ("schtasks", "/Create", "/TN", "wegent-executor")
        read.append(ET.fromstring(Path(argv[argv.index("/XML") + 1]).read_bytes()))
        return subprocess.CompletedProcess(argv, 0, "", "")

    keeper = TaskSchedulerKeeper(USER, tmp_path, run=Windows())
    perform(keeper.install(SERVICE, force=False), run=schtasks)
    assert [element.text for element in read[0].iter() if name_of(element) == "Command"] == [
        PROGRAM
    ]
    assert list(tmp_path.iterdir()) == []


def test_a_task_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    windows = Windows({"state": "Ready", "source": "Contoso", "last": 0})
    keeper = TaskSchedulerKeeper(USER, tmp_path, run=windows)
    with pytest.raises(NotOurs):
        keeper.install(SERVICE, force=False)
    assert isinstance(keeper.install(SERVICE, force=True)[0], WriteFile)
    with pytest.raises(NotOurs):
        keeper.uninstall(force=True)


def test_uninstalling_ends_and_deletes_the_task_if_it_is_there(tmp_path: Path) -> None:
    assert TaskSchedulerKeeper(USER, tmp_path, run=Windows()).uninstall(force=False) == []
    windows = Windows({"state": "Running", "source": MADE_BY, "last": 0x41301})
    keeper = TaskSchedulerKeeper(USER, tmp_path, run=windows)
    *stop, delete = keeper.uninstall(force=False)
    assert stop == keeper.stop()
    assert delete == RunProgram(("schtasks", "/Delete", "/TN", "wegent-executor", "/F"))


@pytest.mark.parametrize(
    ("task", "status"),
    [
        (None, ServiceStatus("not installed")),
        ({"state": "Running", "last": 0x41301}, ServiceStatus("running", at_login=True)),
        ({"state": "Ready", "last": 77}, ServiceStatus("failed", at_login=True, last_exit=77)),
        ({"state": "Ready", "last": 0}, ServiceStatus("stopped", at_login=True, last_exit=0)),
        ({"state": "Ready", "last": 0x41303}, ServiceStatus("stopped", at_login=True)),
        ({"state": "Disabled", "last": 0x41303}, ServiceStatus("stopped")),
        ({"state": "Disabled", "last": 0x41306}, ServiceStatus("stopped")),
        ({"state": "Ready", "last": 0x800710E0}, ServiceStatus("stopped", at_login=True)),
    ],
)
def test_how_it_stands_is_read_from_the_task_scheduler(
    tmp_path: Path, task: object, status: ServiceStatus
) -> None:
    assert TaskSchedulerKeeper(USER, tmp_path, run=Windows(task)).status() == status


def test_without_a_user_there_is_nobody_to_wait_for() -> None:
    with pytest.raises(ConfigError, match="USERNAME"):
        task_text(SERVICE, "")
