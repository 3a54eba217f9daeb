"""Room on the disks."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from executor.diagnosis.disk import FEW_BYTES, TOO_FEW_BYTES, look_at_disks
from executor.diagnosis.finding import Finding, State

Mount = Callable[[str], Path]


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Mount]:
    """Makes a file system of its own, with the options of a tmpfs."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = []

    def mount(options: str) -> Path:
        try:
            done = subprocess.run(
                ["mount", "-t", "tmpfs", "-o", options, "none", str(folder)], capture_output=True
            )
        except OSError as exc:
            pytest.skip(f"NOT TESTED, a small disk: {exc}")
        if done.returncode:
            pytest.skip("NOT TESTED, a small disk: may not mount here")
        mounted.append(folder)
        return folder

    yield mount
    for each in mounted:
        subprocess.run(["umount", str(each)], check=True)


def look(folder: Path) -> Finding:
    return look_at_disks([folder])[0]


@pytest.mark.parametrize(
    ("size", "state"),
    [
        (TOO_FEW_BYTES // 2, State.FAILED),
        (FEW_BYTES // 2, State.WARNING),
        (2 * FEW_BYTES, State.OK),
    ],
)
def test_what_is_free_decides(size: int, state: State, mount: Mount) -> None:
    folder = mount(f"size={size}")

    finding = look(folder)

    assert finding.state is state
    assert str(folder) in finding.what
    if state is not State.OK:
        assert finding.remedy == f"du -xh -d 2 {folder} | sort -h | tail"


def test_a_disk_without_room_for_more_files_is_a_failure(mount: Mount) -> None:
    folder = mount(f"size={2 * FEW_BYTES},nr_inodes=10")

    finding = look(folder)

    assert finding.state is State.FAILED
    assert finding.remedy == f"du -x --inodes -d 2 {folder} | sort -n | tail"
    assert "no more files" in finding.what


def test_folders_of_one_disk_are_one_finding(mount: Mount, tmp_path: Path) -> None:
    there = mount(f"size={2 * FEW_BYTES}")

    findings = look_at_disks([there / "home", there / "home" / "logs", tmp_path / "new"])

    places = [finding.what.split(" free for ")[1] for finding in findings]
    assert places[:2] == [str(there), str(tmp_path)]
