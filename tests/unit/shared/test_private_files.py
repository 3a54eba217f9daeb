"""Private files and folders are for their owner only, and are replaced as a whole."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from shared.private_files import make_private_directory, write_private_file


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_every_folder_that_is_made_is_private_and_existing_ones_keep_their_mode(
    tmp_path: Path,
) -> None:
    tmp_path.chmod(0o755)

    make_private_directory(tmp_path / "a" / "b")
    make_private_directory(tmp_path / "a" / "b")

    assert mode(tmp_path / "a") == mode(tmp_path / "a" / "b") == 0o700
    assert mode(tmp_path) == 0o755


def test_a_written_file_is_private_even_if_the_old_one_was_not(tmp_path: Path) -> None:
    file = tmp_path / "state"
    file.write_text("old")
    file.chmod(0o644)

    write_private_file(file, "new ü")

    assert file.read_text(encoding="utf-8") == "new ü"
    assert mode(file) == 0o600
    assert list(tmp_path.iterdir()) == [file]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "state"
    file.write_text("old")

    with pytest.raises(UnicodeEncodeError):
        write_private_file(file, "\udc80")

    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def refuse_directories(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Have the disk write files through, and answer with error *number* for directories."""
    write_through = os.fsync

    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))
        write_through(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_a_name_that_the_disk_may_lose_is_told(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_directories(monkeypatch, number)
    file = tmp_path / "state"

    with pytest.raises(OSError) as raised:
        write_private_file(file, "new")

    assert raised.value.errno == number
    assert list(tmp_path.iterdir()) == [file]
    assert file.read_text() == "new"


def test_where_no_directory_can_be_written_through_a_file_is_written_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_directories(monkeypatch, errno.EINVAL)

    write_private_file(tmp_path / "state", "new")

    assert (tmp_path / "state").read_text() == "new"
