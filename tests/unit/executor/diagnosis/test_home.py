"""Folders that the executor can use, and nobody else."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from executor.config.local import LocalSettings
from executor.diagnosis.finding import Finding, State
from executor.diagnosis.home import existing_part, look_at_folders
from tests.fakes.users import another_user

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="modes and owners of POSIX")


def look(home: Path, **variables: Any) -> dict[str, Finding]:
    settings = LocalSettings(
        WEGENT_BACKEND_URL="http://localhost:8001",
        WEGENT_AUTH_TOKEN=SecretStr("a-token-for-tests"),
        WEGENT_EXECUTOR_HOME=home,
        **variables,
    )
    return {finding.check: finding for finding in look_at_folders(settings)}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "the home"
    folder.mkdir(mode=0o700)
    return folder


def test_a_closed_home_is_ok(home: Path) -> None:
    findings = look(home)

    assert {finding.state for finding in findings.values()} == {State.OK}
    assert list(findings) == ["home", "workspace", "logs"]


def test_looking_makes_nothing(tmp_path: Path) -> None:
    findings = look(tmp_path / "new")

    assert {finding.state for finding in findings.values()} == {State.OK}
    assert all("does not exist yet" in finding.what for finding in findings.values())
    assert list(tmp_path.iterdir()) == []


def test_a_home_that_others_can_look_into_is_a_warning(home: Path) -> None:
    home.chmod(0o755)

    finding = look(home)["home"]

    assert finding.state is State.WARNING
    assert finding.remedy == f"chmod 700 '{home}'"


def test_a_config_file_that_others_can_read_is_a_warning(home: Path) -> None:
    file = home / "config.env"
    file.touch(mode=0o644)

    finding = look(home)["config file"]

    assert finding.state is State.WARNING
    assert finding.remedy == f"chmod 600 '{file}'"


def test_a_file_in_the_place_of_a_folder_is_a_failure(home: Path) -> None:
    file = home / "logs"
    file.touch()

    finding = look(home)["logs"]

    assert finding.state is State.FAILED
    assert finding.remedy == f"mv '{file}' '{file}.old'"


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="needs another user's folder")
def test_anothers_home_is_a_warning(home: Path) -> None:
    os.chown(home, 12345, -1)

    finding = look(home)["home"]

    assert finding.state is State.WARNING
    assert finding.remedy == f"sudo chown -R \"$(id -un)\" '{home}'"


def test_folders_that_cannot_be_written_to_are_failures(home: Path, tmp_path: Path) -> None:
    # Nobody writes to this file system, whoever they are.
    if not Path("/proc/self").is_dir() or os.access("/proc/self", os.W_OK):
        pytest.skip("needs a folder that takes no files")

    findings = look(home, LOCAL_WORKSPACE_ROOT=Path("/proc/self/workspace"))

    assert findings["workspace"].state is State.FAILED
    assert "cannot be made in /proc/self" in findings["workspace"].what
    assert "sudo mkdir -p" in str(findings["workspace"].remedy)


def test_what_this_user_cannot_see_is_not_there(home: Path) -> None:
    (home / "closed" / "inside").mkdir(parents=True)
    assert existing_part(home / "closed" / "inside") == home / "closed" / "inside"
    with another_user():
        there = existing_part(home / "closed" / "inside")

    assert there in (home / "closed" / "inside").parents
