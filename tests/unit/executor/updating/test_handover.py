"""Whom an update would disturb; what it then does is tested with whole processes elsewhere."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from executor.service.definition import Service, ServiceStatus
from executor.service.steps import RunProgram, Step, StepFailed
from executor.updating.errors import UpdateError
from executor.updating.handover import Handover, Running
from executor.updating.program import InstalledProgram

if TYPE_CHECKING:
    from executor.control.protocol import Status


@pytest.fixture
def program(tmp_path: Path) -> InstalledProgram:
    """A real program of its own, which waits for the end of its input."""
    found = shutil.which("cat")
    assert found is not None
    return InstalledProgram.of(Path(shutil.copy(found, tmp_path / "wegent-executor")).resolve())


@pytest.fixture
def executors(program: InstalledProgram) -> Iterator[list[subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for process in started:
        process.kill()
        process.communicate()


def start(program: InstalledProgram, executors: list[subprocess.Popen[bytes]]) -> int:
    executors.append(subprocess.Popen([program.entry], stdin=subprocess.PIPE))
    return executors[-1].pid


def handover(
    program: InstalledProgram,
    *,
    perform: Callable[[list[Step]], None] = lambda _: None,
    say: Callable[[str], None] = lambda _: None,
) -> Handover:
    return Handover(program, program.entry.parent / "home", None, perform=perform, say=say)


def running(pid: int, keeper: Any = None) -> Running:
    return Running(cast("Status", {"pid": pid, "runs": {}, "state": "registered"}), keeper)


class Keeper:
    """Looks after a service; what it is asked for are steps of one word."""

    advice = ""

    def install(self, service: Service, *, force: bool) -> list[Step]:
        raise NotImplementedError

    def uninstall(self, *, force: bool) -> list[Step]:
        raise NotImplementedError

    def start(self) -> list[Step]:
        return [RunProgram(("start",))]

    def stop(self) -> list[Step]:
        return [RunProgram(("stop",))]

    def status(self) -> ServiceStatus:
        raise NotImplementedError


def test_an_executor_of_another_home_is_never_disturbed(
    program: InstalledProgram, executors: list[subprocess.Popen[bytes]]
) -> None:
    assert handover(program).find_running(now=False) is None
    other = start(program, executors)

    with pytest.raises(UpdateError, match=rf"for this home .* {other} "):
        handover(program).find_running(now=True)


def test_one_that_was_started_during_the_stop_is_not_disturbed(
    program: InstalledProgram, executors: list[subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    pid = start(program, executors)
    before = program.entry.read_bytes()

    def start_another(said: str) -> None:
        if said.startswith("Stopping"):
            start(program, executors)

    with pytest.raises(UpdateError) as caught:
        handover(program, say=start_another).take_over(
            tmp_path / "prepared", running(pid), can_go_back=True
        )

    assert str(executors[1].pid) in caught.value.message
    assert program.entry.read_bytes() == before


def test_a_service_is_started_even_if_the_version_before_cannot_come_back(
    program: InstalledProgram, tmp_path: Path
) -> None:
    prepared = tmp_path / "prepared"
    prepared.write_text("#!/bin/sh\necho wegent-executor 2\n")
    prepared.chmod(0o700)
    performed: list[str] = []

    def perform(steps: list[Step]) -> None:
        (step,) = steps
        assert isinstance(step, RunProgram)
        performed.extend(step.argv)
        if performed == ["stop", "start"]:
            program.previous.unlink()
            raise StepFailed("it does not start")

    with subprocess.Popen(["true"]) as gone:
        pass
    with pytest.raises(FileNotFoundError):
        handover(program, perform=perform).take_over(
            prepared, running(gone.pid, Keeper()), can_go_back=True
        )

    assert performed == ["stop", "start", "stop", "start"]
