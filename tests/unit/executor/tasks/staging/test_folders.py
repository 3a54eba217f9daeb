from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from executor.tasks.staging.folders import StagedFolder, remove_entry


@pytest.fixture
def session(tmp_path: Path) -> Path:
    path = tmp_path / "7"
    path.mkdir()
    return path


@pytest.fixture
def folder(session: Path) -> Iterator[StagedFolder]:
    folder = StagedFolder(session, "input")
    folder.open()
    yield folder
    folder.discard()


def write(folder: StagedFolder, path: str, text: str = "new", *, executable: bool = False) -> None:
    with folder.create(path, executable=executable) as file:
        file.write(text.encode())


def names_in(directory: Path) -> list[str]:
    return sorted(path.relative_to(directory).as_posix() for path in directory.rglob("*"))


def test_nothing_is_in_its_place_before_all_of_it_is(session: Path, folder: StagedFolder) -> None:
    write(folder, "a/b/c.txt")
    assert not (session / "input").exists()

    folder.put()
    folder.discard()

    assert names_in(session) == ["input", "input/a", "input/a/b", "input/a/b/c.txt"]


def test_only_the_owner_may_read_it(session: Path, folder: StagedFolder) -> None:
    write(folder, "a/plain")
    write(folder, "a/program", executable=True)
    folder.put()

    modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in (session / "input").rglob("*")}
    assert modes == {"a": 0o700, "plain": 0o600, "program": 0o700}


@pytest.mark.parametrize("before", ["folder", "file", "link", "dangling"])
def test_whatever_was_there_before_is_replaced(
    session: Path, folder: StagedFolder, tmp_path: Path, before: str
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("kept")
    place = session / "input"
    match before:
        case "folder":
            (place / "old").mkdir(parents=True)
            (place / "old" / "link").symlink_to(outside)
        case "file":
            place.write_text("old")
        case "link":
            place.symlink_to(outside)
        case _:
            place.symlink_to(tmp_path / "nowhere")
    write(folder, "new.txt")

    folder.put()
    folder.discard()

    assert names_in(session) == ["input", "input/new.txt"]
    assert not place.is_symlink()
    assert (outside / "kept").read_text() == "kept"


def test_what_is_not_put_leaves_no_trace(session: Path, folder: StagedFolder) -> None:
    (session / "input").mkdir()
    write(folder, "a/b")

    folder.discard()
    folder.discard()

    assert names_in(session) == ["input"]


def test_a_link_that_somebody_puts_into_it_meanwhile_is_not_followed(
    session: Path, folder: StagedFolder, tmp_path: Path
) -> None:
    (tmp_path / "outside").mkdir()
    write(folder, "a/first")
    (folder.path / "b").symlink_to(tmp_path / "outside")
    (folder.path / "a" / "second").symlink_to(tmp_path / "outside" / "made")

    for path in ("b/x", "a/second"):
        with pytest.raises(OSError):
            write(folder, path)

    assert names_in(tmp_path / "outside") == []


def test_a_folder_that_somebody_puts_into_its_place_meanwhile_gets_nothing(
    session: Path, folder: StagedFolder, tmp_path: Path
) -> None:
    (tmp_path / "outside").mkdir()
    folder.path.rename(session / "moved")
    folder.path.symlink_to(tmp_path / "outside")

    write(folder, "x")

    assert names_in(tmp_path / "outside") == []


def test_an_entry_of_any_kind_is_removed_and_no_link_followed(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "kept").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "outside")
    (tmp_path / "folder" / "x").mkdir(parents=True)
    (tmp_path / "file").write_text("")

    for name in ("link", "folder", "file", "nothing"):
        remove_entry(tmp_path, name)

    assert names_in(tmp_path) == ["outside", "outside/kept"]


def test_what_was_there_stays_when_nothing_can_take_its_place(
    session: Path, folder: StagedFolder
) -> None:
    (session / "input").mkdir()
    (session / "input" / "old").touch()
    folder.path.rmdir()

    with pytest.raises(FileNotFoundError):
        folder.put()
    folder.discard()

    assert names_in(session) == ["input", "input/old"]
