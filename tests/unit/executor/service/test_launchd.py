"""The agent for launchd: there is no launchd to ask, so its file is held against its manual."""

from __future__ import annotations

import plistlib
import subprocess
from collections.abc import Sequence
from pathlib import Path
from xml.dom import minidom

import pytest

from executor.service.definition import Service, ServiceStatus
from executor.service.launchd import LABEL, LaunchdKeeper, agent_text
from executor.service.own_files import NotOurs
from executor.service.steps import AGAIN_AFTER_S, AGAIN_TIMES, StepFailed, perform

SERVICE = Service(
    ("/Users/me/My <Apps> & 50%/wegent-executor", "run"),
    False,
    {"PATH": "/opt/homebrew/bin:/usr/bin", "WEGENT_EXECUTOR_HOME": "/Users/mé/'a' \"b\" --> $x"},
    95,
)

KEYS = {
    "Label": str,
    "ProgramArguments": list,
    "EnvironmentVariables": dict,
    "RunAtLoad": bool,
    "KeepAlive": dict,
    "ThrottleInterval": int,
    "ExitTimeOut": int,
    "StandardOutPath": str,
    "StandardErrorPath": str,
}
"""Names and types as launchd.plist(5) has them; launchd ignores what it does not know."""


class Launchctl:
    """Takes the calls of ``launchctl`` and answers them."""

    def __init__(self, answer: str = "", status: int = 0) -> None:
        self.calls: list[str] = []
        self._answer = subprocess.CompletedProcess([], status, answer, "")

    def __call__(self, argv: Sequence[str]) -> subprocess.CompletedProcess[str]:
        self.calls.append(" ".join(argv))
        return self._answer


def test_what_is_read_from_the_file_is_what_the_service_is() -> None:
    agent = plistlib.loads(agent_text(SERVICE).encode(), fmt=plistlib.FMT_XML)
    assert agent["ProgramArguments"] == list(SERVICE.command)
    assert agent["EnvironmentVariables"] == SERVICE.environment
    assert agent["ExitTimeOut"] == 95
    assert agent["Label"] == LABEL
    # It runs from the login on, and again after a failure; not after a stop that was asked for.
    assert agent["RunAtLoad"] is True
    assert agent["KeepAlive"] == {"SuccessfulExit": False}
    assert agent["ThrottleInterval"] == 60


def test_every_key_is_one_of_launchds_and_has_its_type() -> None:
    agent = plistlib.loads(agent_text(SERVICE).encode())
    assert {name: type(value) for name, value in agent.items()} == KEYS


def test_the_file_has_the_form_that_plutil_asks_for() -> None:
    text = agent_text(SERVICE)
    assert text.startswith(
        '<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE plist PUBLIC "-//Apple'
    )
    with minidom.parseString(text.encode()) as document:
        root = document.documentElement
        assert root is not None
        assert (root.tagName, root.getAttribute("version")) == ("plist", "1.0")
        children = [node.tagName for node in root.childNodes if isinstance(node, minidom.Element)]
    assert children == ["dict"]


def test_installing_writes_it_once_and_uninstalling_removes_it() -> None:
    keeper, launchctl = LaunchdKeeper(run=Launchctl()), Launchctl()
    perform(keeper.install(SERVICE, force=False), run=launchctl)
    assert keeper.agent == Path.home() / "Library" / "LaunchAgents" / f"{LABEL}.plist"
    assert keeper.agent.read_text() == agent_text(SERVICE)
    assert keeper.install(SERVICE, force=False) == []
    perform(keeper.uninstall(force=False), run=launchctl)
    assert not keeper.agent.exists()
    assert keeper.uninstall(force=False) == []
    assert [call.split("gui/")[0] for call in launchctl.calls] == [
        "launchctl enable ",
        "launchctl bootout ",
    ]


def test_an_agent_that_somebody_has_changed_is_left_alone() -> None:
    keeper = LaunchdKeeper(run=Launchctl())
    perform(keeper.install(SERVICE, force=False), run=Launchctl())
    changed = keeper.agent.read_text().replace(">60<", ">600<")
    keeper.agent.write_text(changed)
    with pytest.raises(NotOurs, match="has been changed"):
        keeper.install(SERVICE, force=False)
    with pytest.raises(NotOurs, match="has been changed"):
        keeper.uninstall(force=False)
    assert keeper.agent.read_text() == changed
    assert keeper.install(SERVICE, force=True)


@pytest.mark.parametrize(
    ("shown", "code"), [("", 113), ("\tstate = not running\n", 0), ("\tstate = SIGTERMed\n", 0)]
)
def test_a_start_waits_until_what_was_stopped_is_unloaded(shown: str, code: int) -> None:
    keeper = LaunchdKeeper(run=Launchctl(shown, code))
    calls: list[str] = []

    def launchctl(argv: Sequence[str]) -> subprocess.CompletedProcess[str]:
        calls.append(argv[1])
        loading = argv[1] == "bootstrap"
        status = (0 if calls.count("bootstrap") > 2 else 5) if loading else 37
        return subprocess.CompletedProcess(argv, status, "", "Bootstrap failed: 5: I/O error")

    perform(keeper.start(), run=launchctl, pause=lambda _seconds: calls.append("pause"))

    assert calls == [
        "bootout", "bootstrap", "pause", "bootstrap", "pause", "bootstrap", "kickstart",
    ]  # fmt: skip


def test_one_that_cannot_be_loaded_is_given_up() -> None:
    keeper = LaunchdKeeper(run=Launchctl(status=113))
    pauses: list[float] = []

    with pytest.raises(StepFailed, match=f"bootstrap .*{LABEL}"):
        perform(keeper.start(), run=Launchctl(status=5), pause=pauses.append)
    assert pauses == [AGAIN_AFTER_S] * AGAIN_TIMES
    pauses.clear()
    with pytest.raises(StepFailed, match="bootstrap"):  # as for a user who has no such domain
        perform(keeper.start(), run=Launchctl(status=125), pause=pauses.append)
    assert pauses == []


def test_one_that_runs_is_not_started_again() -> None:
    assert LaunchdKeeper(run=Launchctl("\tstate = running\n")).start() == []


@pytest.mark.parametrize(
    ("shown", "code", "status"),
    [
        ("\tstate = running\n\tpid = 42\n\tlast exit code = 1\n", 0, ("running", 42, None)),
        ("\tstate = SIGTERMed\n\tpid = 42\n", 0, ("stopping", 42, None)),
        ("\tstate = not running\n\tlast exit code = 77\n", 0, ("failed", None, 77)),
        ("\tstate = not running\n\tlast exit code = 0\n", 0, ("stopped", None, 0)),
        ("\tstate = waiting\n\tlast exit code = (never exited)\n", 0, ("stopped", None, None)),
        ("", 113, ("stopped", None, None)),  # not loaded
    ],
)
def test_how_it_stands_is_read_from_launchd(
    shown: str, code: int, status: tuple[str, int | None, int | None]
) -> None:
    keeper = LaunchdKeeper(run=Launchctl(f"gui/501/{LABEL} = {{\n{shown}}}\n", code))
    assert keeper.status() == ServiceStatus("not installed")
    perform(keeper.install(SERVICE, force=False), run=Launchctl())
    found = keeper.status()
    assert (found.state, found.pid, found.last_exit) == status
    assert found.at_login
