"""An update from end to end: small programs in the place of the executor, each a real process."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from executor.control.client import ask
from executor.control.errors import ControlError, NotRunning
from executor.exit_status import ExitStatus
from executor.file_lock import lock
from executor.service.definition import ServiceStatus
from executor.updating.handover import Handover
from executor.updating.program import ID_LENGTH, InstalledProgram
from tests.fakes.programs import NAME, archive, program, put, sha256
from tests.fakes.updating import START, ShellKeeper

STAND_IN = Path(__file__).parents[1] / "fakes" / "stand_in_executor.py"
IDLE = dict.fromkeys(
    ("running", "waiting_for_input", "paused", "cancelling", "queued", "interrupted"), 0
)


class Place:
    """A home with a program in it, a service that may run it, and the command to update it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.entry = self.home / "bin" / NAME
        self.executable = self.entry
        self._count = 0

    def version(self, number: int, *, doctor: int = 0, says: str = "", **status: Any) -> bytes:
        """An executor of version *number* whose control socket answers *status*."""
        answer = {
            "state": "registered",
            "last_error": None,
            "version": str(number),
            "runs": IDLE | status.pop("runs", {}),
        } | status
        serve = f"exec '{sys.executable}' -S '{STAND_IN}' '{self.home}' '{json.dumps(answer)}'"
        return program(str(number), doctor=doctor, says=says, run=serve)

    def install(self, content: bytes) -> None:
        put(self.entry, content, checksum=False).chmod(0o700)

    def install_folder(self, content: bytes) -> None:
        version = self.home / "versions" / sha256(archive(content))[:ID_LENGTH]
        self.executable = version / NAME
        put(self.executable, content, checksum=False).chmod(0o700)
        (version / "_internal").mkdir()
        self.entry.parent.mkdir()
        self.entry.symlink_to(self.executable)

    def start_service(self) -> int:
        """Have the executor run as a service; its pid, when it can be asked."""
        subprocess.run(["sh", "-c", START, "sh", self.entry, self.folder], check=True)
        return self.wait_for_answer()

    def start_by_hand(self) -> subprocess.Popen[bytes]:
        started = subprocess.Popen([self.entry, "run"])
        self.wait_for_answer()
        return started

    def wait_for_answer(self, of: str | None = None) -> int:
        """The pid of the executor that answers, of the version *of* if that is given."""
        while True:
            with suppress(ControlError):  # not there yet, or not any more
                status = self.status()
                if of in (None, status["version"]):
                    return int(status["pid"])

    def status(self) -> dict[str, Any]:
        return ask(self.home, "status")

    def offer(self, content: bytes) -> str:
        """A new version in a file; the arguments that name it."""
        self._count += 1
        return f"--from={put(self.folder / f'offered-{self._count}', content)}"

    def start_update(self, *arguments: str, service: bool = True) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "tests.fakes.updating", str(self.executable)]
        keeper = ["--service", str(self.folder)] if service else []
        return subprocess.Popen(
            [*command, str(self.home), *keeper, *arguments],
            cwd=Path(__file__).parents[2],
            env={"PATH": os.environ["PATH"], "WEGENT_EXECUTOR_HOME": str(self.home)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def update(self, *arguments: str, status: int = 0, service: bool = True) -> str:
        """Run the command to its end; all that it says. Nothing may be left of it."""
        process = self.start_update(*arguments, service=service)
        said, trouble = process.communicate()
        assert process.returncode == status, said + trouble
        assert not [path for path in self.home.rglob("*") if ".new-" in path.name]
        return said + trouble

    @property
    def versions(self) -> tuple[str, str | None]:
        """Which version is in place, and which is the previous one."""
        previous = self.entry.with_name(f"{NAME}.previous")
        return _version_of(self.entry), _version_of(previous) if previous.exists() else None


def _version_of(path: Path) -> str:
    return subprocess.check_output([path, "--version"], text=True).split()[1]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    with suppress(FileNotFoundError, psutil.NoSuchProcess):
        psutil.Process(int((tmp_path / "pid").read_text())).kill()


def test_a_service_is_started_again_with_the_new_version(place: Place) -> None:
    place.install(place.version(1))
    before = place.start_service()

    said = place.update(place.offer(place.version(2)))

    assert place.versions == ("2", "1")
    after = place.status()
    assert (after["version"], after["pid"] != before) == ("2", True)
    assert f"Updated to {NAME} 2" in said


def test_a_service_that_is_a_folder_is_updated_from_an_archive(place: Place) -> None:
    place.install_folder(place.version(1))
    place.start_service()

    place.update(place.offer(archive(place.version(2))))

    assert place.versions == ("2", "1")
    assert place.status()["version"] == "2"


@pytest.mark.parametrize("state", ["running", "waiting_for_input", "paused", "cancelling"])
def test_while_tasks_run_nothing_happens(place: Place, state: str) -> None:
    place.install(place.version(1, runs={state: 1}))
    before = place.start_service()

    said = place.update(place.offer(place.version(2)), status=ExitStatus.BUSY)

    assert "a task is running" in said
    assert "--now" in said
    assert place.versions == ("1", None)
    assert place.status()["pid"] == before


def test_tasks_do_not_keep_an_operator_who_says_now(place: Place) -> None:
    place.install(place.version(1, runs={"running": 2}))
    place.start_service()

    place.update("--now", place.offer(place.version(2)))

    assert place.versions == ("2", "1")


def test_tasks_that_only_wait_are_no_reason_to_wait(place: Place) -> None:
    place.install(place.version(1, runs={"queued": 3, "interrupted": 1}))
    place.start_service()

    place.update(place.offer(place.version(2)))

    assert place.versions == ("2", "1")


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ({"state": "connecting", "last_error": "the backend is not there"}, "is not there"),
        (None, "no executor is running"),
    ],
)
def test_one_that_does_not_report_healthy_has_to_go_again(
    place: Place, bad: dict[str, Any] | None, reason: str
) -> None:
    place.install(place.version(1))
    place.start_service()
    new = program("2", run="exit 1") if bad is None else place.version(2, **bad)

    said = place.update(place.offer(new), "--healthy-within=1", status=ExitStatus.FAILURE)

    assert reason in said
    assert "the version before is back" in said
    assert place.versions == ("1", None)
    place.wait_for_answer(of="1")


def test_one_that_cannot_reach_the_backend_either_is_as_good(place: Place) -> None:
    place.install(place.version(1, state="connecting"))
    place.start_service()

    place.update(place.offer(place.version(2, state="connecting")))

    assert place.versions == ("2", "1")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_update_that_is_interrupted_goes_back(place: Place, number: signal.Signals) -> None:
    place.install(place.version(1))
    place.start_service()
    process = place.start_update(place.offer(place.version(2, state="connecting")))
    place.wait_for_answer(of="2")

    process.send_signal(number)
    process.send_signal(signal.SIGINT)  # as a single file hears it, and as people press it
    process.communicate()

    assert process.returncode == ExitStatus.INTERRUPTED
    assert place.versions == ("1", None)
    place.wait_for_answer(of="1")


def test_an_update_whose_terminal_is_gone_goes_on(place: Place) -> None:
    place.install(place.version(1))
    place.start_service()
    with place.start_update(place.offer(place.version(2))) as process:
        assert process.stdout is not None
        process.stdout.close()

    assert process.returncode == 0
    assert place.status()["version"] == "2"


def test_an_executor_that_was_started_by_hand_is_left_alone(place: Place) -> None:
    place.install(place.version(1))
    with place.start_by_hand() as by_hand:
        said = place.update(place.offer(place.version(2)), status=ExitStatus.FAILURE)

        assert by_hand.poll() is None
        by_hand.terminate()
    assert f"process {by_hand.pid}" in said
    assert place.versions == ("1", None)


def test_an_executor_that_was_started_by_hand_is_stopped_when_told(place: Place) -> None:
    place.install(place.version(1))
    with place.start_by_hand() as by_hand:
        said = place.update("--now", place.offer(place.version(2)), service=False)

        assert by_hand.wait() == 0
    assert "start it again" in said
    assert place.versions == ("2", "1")


def test_a_task_cannot_update_its_executor(place: Place) -> None:
    place.install(place.version(1, pid=os.getpid()))
    with place.start_by_hand() as by_hand:
        said = place.update("--now", place.offer(place.version(2)), status=ExitStatus.FAILURE)
        by_hand.terminate()

    assert "a task of the executor" in said
    assert place.versions == ("1", None)


def test_a_service_whose_process_nobody_tells_is_known_by_its_state(place: Place) -> None:
    class Keeper(ShellKeeper):
        def status(self) -> ServiceStatus:
            return replace(super().status(), pid=None)

    place.install(place.version(1))
    place.start_service()
    keeper = Keeper(place.entry, place.folder)
    handover = Handover(
        InstalledProgram.of(place.entry),
        place.home,
        keeper,
        perform=lambda _: None,
        say=lambda _: None,
    )

    found = handover.find_running(now=False)

    assert found is not None
    assert found.keeper is keeper


def test_where_nothing_runs_only_the_program_is_exchanged(place: Place) -> None:
    place.install(place.version(1))

    place.update(place.offer(place.version(2)))

    assert place.versions == ("2", "1")
    with pytest.raises(NotRunning):
        place.status()


@pytest.mark.parametrize("content", [b"\x7fELF", b"#!/bin/sh\necho other 2\n"])
def test_what_does_not_run_is_not_installed(place: Place, content: bytes) -> None:
    place.install(place.version(1))
    before = place.start_service()

    place.update(place.offer(content), status=ExitStatus.FAILURE)

    assert place.versions == ("1", None)
    assert place.status()["pid"] == before


def test_one_whose_doctor_finds_what_this_one_does_not_is_not_installed(place: Place) -> None:
    place.install(place.version(1))
    before = place.start_service()

    said = place.update(
        place.offer(place.version(2, doctor=1, says="a setting is wrong")),
        status=ExitStatus.FAILURE,
    )

    assert "a setting is wrong" in said
    assert place.versions == ("1", None)
    assert place.status()["pid"] == before


def test_what_both_doctors_find_is_no_reason_to_stay(place: Place) -> None:
    place.install(place.version(1, doctor=1))

    place.update(place.offer(place.version(2, doctor=1)))

    assert place.versions == ("2", "1")


def test_where_the_new_version_cannot_be_written_nothing_changes(place: Place) -> None:
    place.install(place.version(1))
    before = place.start_service()
    process = place.start_update(place.offer(place.version(2)))
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (100, 100))

    _, trouble = process.communicate()

    assert process.returncode == ExitStatus.FAILURE
    assert "File too large" in trouble
    assert place.versions == ("1", None)
    assert place.status()["pid"] == before


def test_another_checksum_changes_nothing(place: Place) -> None:
    place.install(place.version(1))
    before = place.start_service()

    said = place.update(
        place.offer(place.version(2)), f"--sha256={'0' * 64}", status=ExitStatus.FAILURE
    )

    assert "checksum does not match" in said
    assert place.versions == ("1", None)
    assert place.status()["pid"] == before


def test_the_version_that_is_there_is_not_installed_again(place: Place) -> None:
    place.install(place.version(1, runs={"running": 1}))
    before = place.start_service()

    said = place.update(place.offer(place.version(1, runs={"running": 1})))

    assert "This is the version that is installed" in said
    assert place.versions == ("1", None)
    assert place.status()["pid"] == before


def test_a_rollback_brings_the_version_before_back(place: Place) -> None:
    place.install(place.version(1))
    place.start_service()
    place.update(place.offer(place.version(2)))

    said = place.update("--rollback")

    assert f"Back to {NAME} 1" in said
    assert place.versions == ("1", "2")
    assert place.status()["version"] == "1"


def test_a_rollback_stays_although_the_backend_is_out_of_reach(place: Place) -> None:
    place.install(place.version(1, state="connecting"))
    place.update(place.offer(place.version(2)))
    place.start_service()

    said = place.update("--rollback", "--healthy-within=1", status=ExitStatus.FAILURE)

    assert "does not report healthy" in said
    assert place.versions == ("1", "2")
    assert place.status()["version"] == "1"


def test_without_a_version_before_there_is_no_rollback(place: Place) -> None:
    place.install(place.version(1))

    assert "no version before" in place.update("--rollback", status=ExitStatus.FAILURE)


def test_two_updates_do_not_meet(place: Place) -> None:
    place.install(place.version(1))
    with InstalledProgram.of(place.entry).lock_file.open("w") as held:
        lock(held.fileno())
        place.home = place.folder / "another home"
        said = place.update(place.offer(place.version(2)), status=ExitStatus.FAILURE)

    assert "another update" in said
    assert place.versions == ("1", None)


def test_what_a_killed_update_has_left_is_not_installed(place: Place) -> None:
    place.install_folder(place.version(1))
    new = archive(place.version(2))
    half = place.home / "versions" / sha256(new)[:ID_LENGTH]
    put(half / NAME, place.version(3), checksum=False).chmod(0o700)

    place.update(place.offer(new))

    assert place.versions == ("2", "1")


def test_a_folder_that_cannot_be_written_is_named(place: Place) -> None:
    place.install(place.version(1))
    lock_file = InstalledProgram.of(place.entry).lock_file
    lock_file.mkdir()  # root may write wherever files are possible

    said = place.update(place.offer(place.version(2)), status=ExitStatus.FAILURE)

    assert f"{lock_file} cannot be used" in said
