"""The unit for systemd, read by systemd's own validator; and the steps around it."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from executor.commands import run as run_command
from executor.exit_status import ExitStatus
from executor.service.definition import Service, ServiceStatus
from executor.service.own_files import NotOurs
from executor.service.steps import StepFailed, perform
from executor.service.systemd import SystemdKeeper, unit_text
from executor.service.timing import stop_limit_s
from shared.errors import ConfigError

SERVICE = Service(("/opt/wegent/wegent-executor", "run"), False, {"PATH": "/usr/bin"}, 90)


class Systemctl:
    """Takes the calls of ``systemctl`` and answers them."""

    def __init__(self, answer: str = "", status: int = 0, error: str = "") -> None:
        self.calls: list[str] = []
        self._answer = subprocess.CompletedProcess([], status, answer, error)

    def __call__(self, argv: Sequence[str]) -> subprocess.CompletedProcess[str]:
        self.calls.append(" ".join(argv))
        return self._answer


def keeper_in(tmp_path: Path, systemctl: Systemctl | None = None) -> SystemdKeeper:
    return SystemdKeeper({"XDG_CONFIG_HOME": str(tmp_path)}, run=systemctl or Systemctl())


def installed(tmp_path: Path) -> SystemdKeeper:
    keeper = keeper_in(tmp_path)
    perform(keeper.install(SERVICE, force=False), run=Systemctl())
    return keeper


def verified(unit: Path, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    if shutil.which("systemd-analyze") is None:
        pytest.skip(
            "NO PROOF THAT SYSTEMD TAKES THE UNIT: systemd-analyze is missing (apt: systemd)"
        )
    runtime = tmp_path / "run"
    runtime.mkdir(mode=0o700, exist_ok=True)
    return subprocess.run(
        ["systemd-analyze", "verify", "--user", str(unit)],
        env={**os.environ, "XDG_RUNTIME_DIR": str(runtime)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("one_file", [False, True])
@pytest.mark.parametrize("folder", ["plain", "two words", "100%n", "$HOME ${x}", "näme", "a;b #c"])
def test_systemd_finds_nothing_wrong_with_the_unit_and_finds_the_program(
    tmp_path: Path, folder: str, one_file: bool
) -> None:
    program = tmp_path / folder / "wegent-executor"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o700)
    unit = tmp_path / "wegent-executor.service"
    awkward = {
        "PATH": f"/usr/bin:{program.parent}",
        "WEGENT_EXECUTOR_HOME": "/a\tb\\c \"d\" 'e' %h",
    }
    unit.write_text(unit_text(Service((str(program), "run"), one_file, awkward, 90)))
    checked = verified(unit, tmp_path)
    assert (checked.returncode, checked.stderr) == (0, "")
    program.unlink()  # so that the path which systemd has read can be seen
    assert f"Command {program} is not executable" in verified(unit, tmp_path).stderr


@pytest.mark.parametrize("path", ["wegent-executor", "/a'b/x", '/a"b/x', "/a\\b/x", "/a\nb/x"])
def test_a_path_that_systemd_cannot_start_is_refused(path: str) -> None:
    with pytest.raises(ConfigError, match="systemd cannot start"):
        unit_text(dataclasses.replace(SERVICE, command=(path, "run")))


def test_arguments_reach_the_program_as_they_are() -> None:
    text = unit_text(dataclasses.replace(SERVICE, command=("/x", "$HOME", "50%", 'a "b" \\', "")))
    assert 'ExecStart=/x $$HOME 50%% "a \\"b\\" \\\\" ""\n' in text


def test_a_service_is_not_started_again_where_that_cannot_help() -> None:
    text = unit_text(SERVICE)
    assert "\nRestart=on-failure\n" in text
    hopeless = (ExitStatus.USAGE.value, ExitStatus.REJECTED.value)
    assert "\nRestartPreventExitStatus={} {}\n".format(*hopeless) in text


def test_systemd_waits_until_the_executor_breaks_its_stop_off_itself() -> None:
    limit = stop_limit_s(30)
    assert limit > 30 + run_command.STOP_WITHIN_S + run_command.LAST_STEPS_S
    text = unit_text(dataclasses.replace(SERVICE, stop_limit_s=limit))
    assert f"\nTimeoutStopSec={limit:.0f}\n" in text


def test_only_the_process_that_systemd_started_speaks_for_the_service() -> None:
    assert "\nNotifyAccess=main\n" in unit_text(SERVICE)
    # A single file is unpacked by one process and carried out by another.
    single = dataclasses.replace(SERVICE, unpacks_itself=True)
    assert "\nNotifyAccess=all\n" in unit_text(single)


def test_installing_writes_the_unit_and_enables_it_once(tmp_path: Path) -> None:
    keeper, systemctl = keeper_in(tmp_path), Systemctl()
    perform(keeper.install(SERVICE, force=False), run=systemctl)
    assert keeper.unit == tmp_path / "systemd" / "user" / "wegent-executor.service"
    assert keeper.unit.read_text() == unit_text(SERVICE)
    assert systemctl.calls == [
        "systemctl --user daemon-reload",
        "systemctl --user enable wegent-executor.service",
    ]
    assert keeper.install(SERVICE, force=False) != []  # as if systemd could not be asked
    keeper.enabled.parent.mkdir()
    keeper.enabled.symlink_to(keeper.unit)
    assert keeper.install(SERVICE, force=False) == []


def test_installing_again_brings_the_unit_up_to_date(tmp_path: Path) -> None:
    keeper = installed(tmp_path)
    other = dataclasses.replace(SERVICE, command=("/elsewhere/wegent-executor", "run"))
    perform(keeper.install(other, force=False), run=Systemctl())
    assert keeper.unit.read_text() == unit_text(other)


def test_a_unit_that_somebody_has_changed_is_replaced_only_by_force(tmp_path: Path) -> None:
    keeper = installed(tmp_path)
    changed = keeper.unit.read_text().replace("RestartSec=5", "RestartSec=50")
    keeper.unit.write_text(changed)
    with pytest.raises(NotOurs, match=r"has been changed.*systemctl --user edit"):
        keeper.install(SERVICE, force=False)
    with pytest.raises(NotOurs, match="has been changed"):
        keeper.uninstall(force=False)
    assert keeper.unit.read_text() == changed
    perform(keeper.install(SERVICE, force=True), run=Systemctl())
    assert keeper.unit.read_text() == unit_text(SERVICE)


def test_a_unit_of_somebody_else_is_never_removed(tmp_path: Path) -> None:
    keeper = keeper_in(tmp_path)
    keeper.unit.parent.mkdir(parents=True)
    keeper.unit.write_text("[Service]\nExecStart=/bin/true\n")
    with pytest.raises(NotOurs, match="was not made by this program"):
        keeper.install(SERVICE, force=False)
    for force in (False, True):
        with pytest.raises(NotOurs, match="was not made by this program"):
            keeper.uninstall(force=force)


def test_uninstalling_stops_it_and_removes_only_the_unit(tmp_path: Path) -> None:
    keeper, systemctl = installed(tmp_path), Systemctl()
    drop_in = keeper.unit.with_name("wegent-executor.service.d") / "own.conf"
    drop_in.parent.mkdir()
    drop_in.touch()
    perform(keeper.uninstall(force=False), run=systemctl)
    assert systemctl.calls == [
        "systemctl --user disable --now wegent-executor.service",
        "systemctl --user daemon-reload",
    ]
    assert not keeper.unit.exists()
    assert drop_in.exists()
    assert keeper.uninstall(force=False) == []


@pytest.mark.parametrize(
    ("shown", "status"),
    [
        (
            (
                "LoadState=loaded\nActiveState=active\nUnitFileState=enabled\nMainPID=42\n"
                "StatusText=connected to http://b=c\nExecMainCode=0\nExecMainStatus=0\n"
            ),
            ServiceStatus("running", True, 42, "connected to http://b=c", None),
        ),
        (
            (
                "LoadState=loaded\nActiveState=failed\nUnitFileState=disabled\nMainPID=0\n"
                "StatusText=connecting to http://b\nExecMainCode=1\nExecMainStatus=77\n"
            ),
            ServiceStatus("failed", False, None, None, 77),
        ),
        (
            (
                "LoadState=loaded\nActiveState=activating\nUnitFileState=enabled\nMainPID=0\n"
                "ExecMainCode=3\nExecMainStatus=6\n"
            ),
            ServiceStatus("starting", True, None, None, -6),
        ),
        (
            (
                "LoadState=loaded\nActiveState=inactive\nUnitFileState=enabled\nMainPID=0\n"
                "ExecMainCode=0\nExecMainStatus=0\n"
            ),
            ServiceStatus("stopped", True, None, None, None),
        ),
        ("LoadState=not-found\nActiveState=inactive\n", ServiceStatus("not installed")),
    ],
)
def test_how_it_stands_is_read_from_systemd(
    tmp_path: Path, shown: str, status: ServiceStatus
) -> None:
    assert keeper_in(tmp_path, Systemctl(shown)).status() == status


def test_a_user_without_a_systemd_of_his_own_is_told_so(tmp_path: Path) -> None:
    systemctl = Systemctl(status=1, error="Failed to connect to bus: No medium found\n")
    with pytest.raises(StepFailed, match=r"No medium found.*after sudo"):
        keeper_in(tmp_path, systemctl).status()
    with pytest.raises(StepFailed, match=r"`systemctl --user start .*failed.*No medium found"):
        perform(keeper_in(tmp_path).start(), run=systemctl)
