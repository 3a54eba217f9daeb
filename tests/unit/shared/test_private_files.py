"""Private files and folders are for their owner only, and are replaced as a whole."""

from __future__ import annotations

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
