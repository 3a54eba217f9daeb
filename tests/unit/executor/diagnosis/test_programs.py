"""The programs beside the executor: there, working, and what gets them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from executor.diagnosis import programs
from executor.diagnosis.finding import State
from executor.diagnosis.programs import (
    look_at_claude,
    look_at_git,
    look_at_sandbox,
)
from tests.fakes.claude import NEW, program, says

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="programs that are shell scripts")


def path_with(folder: Path, **scripts: str) -> dict[str, str]:
    folder.mkdir(exist_ok=True)
    for name, script in scripts.items():
        program(folder / name.replace("_", "-"), script)
    return {"PATH": str(folder)}


def test_git_tells_its_version() -> None:
    finding = look_at_git(os.environ)

    assert finding.state is State.OK
    assert finding.what.startswith("2.")


def test_a_missing_git_is_a_failure_with_the_command_that_installs_it(tmp_path: Path) -> None:
    finding = look_at_git(path_with(tmp_path, apt_get=""))

    assert finding.state is State.FAILED
    assert finding.remedy == "sudo apt-get update && sudo apt-get install --yes git"


def test_a_git_that_does_not_work_is_a_failure(tmp_path: Path) -> None:
    finding = look_at_git(path_with(tmp_path, git="exit 1"))

    assert finding.state is State.FAILED
    assert f"{tmp_path / 'git'} does not work" in finding.what


def test_a_program_that_does_not_answer_does_not_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(programs, "ANSWER_WITHIN_S", 0.1)

    finding = look_at_git(path_with(tmp_path, git="exec /bin/sleep 60"))

    assert finding.state is State.FAILED


@pytest.mark.skipif(sys.platform != "linux", reason="bubblewrap is Linux's sandbox")
@pytest.mark.parametrize(
    ("isolation", "state"),
    [
        ("auto", State.WARNING),
        ("sandbox", State.FAILED),
        ("none", State.OK),
        ("container", State.OK),
    ],
)
def test_a_missing_sandbox_is_as_bad_as_the_setting_says(
    isolation: str, state: State, tmp_path: Path
) -> None:
    finding = look_at_sandbox(isolation, path_with(tmp_path, apt_get=""))

    assert finding.state is state
    assert "bwrap and socat not installed" in finding.what
    if state is not State.OK:
        assert "apt-get install --yes bubblewrap socat" in str(finding.remedy)


@pytest.mark.skipif(sys.platform != "linux", reason="bubblewrap is Linux's sandbox")
def test_a_sandbox_that_works_is_ok() -> None:
    assert look_at_sandbox("auto", os.environ).state is State.OK


def test_claude_code_is_shown_with_its_version_and_where_it_is_from(tmp_path: Path) -> None:
    cli = says(NEW, tmp_path / "bin" / "claude")

    finding = look_at_claude(cli, tmp_path / "home", {})

    assert finding.state is State.OK
    assert finding.what == f"{NEW}, WEGENT_CLAUDE_PATH: {cli}"


def test_a_claude_code_that_cannot_be_used_is_a_failure_with_the_reason(tmp_path: Path) -> None:
    cli = says("1.0.51", tmp_path / "bin" / "claude")

    finding = look_at_claude(cli, tmp_path / "home", {})

    assert finding.state is State.FAILED
    assert "is 1.0.51" in finding.what
    assert "WEGENT_CLAUDE_PATH" in str(finding.remedy)
