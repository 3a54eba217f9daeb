"""The directory of a session becomes the container user's, and nothing else does."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from shared.containers.directories import (
    IMAGE_USER,
    container_user,
    make_directory,
    remove_directory,
    take_over,
)
from shared.containers.errors import ContainerError

ME = (os.getuid(), os.getgid())
as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
not_root = pytest.mark.skipif(os.getuid() == 0, reason="root never runs as itself in there")


def owner(path: Path) -> tuple[int, int]:
    found = path.lstat()
    return found.st_uid, found.st_gid


@as_root
def test_roots_containers_run_as_the_images_user() -> None:
    assert container_user() == IMAGE_USER


@not_root
def test_everybody_elses_containers_run_as_themselves() -> None:
    assert container_user() == ME


@as_root
def test_all_that_is_in_the_directory_is_handed_over(tmp_path: Path) -> None:
    session = tmp_path / "session"
    (session / "a" / "b").mkdir(parents=True)
    (session / "a" / "b" / "file").touch()
    make_directory(session, (4711, 4712))
    for path in (session, session / "a", session / "a" / "b", session / "a" / "b" / "file"):
        assert owner(path) == (4711, 4712)


@as_root
def test_what_a_link_leads_to_is_not_handed_over(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "folder").mkdir(parents=True)
    (outside / "file").touch()
    session = tmp_path / "session"
    session.mkdir()
    (session / "file").symlink_to(outside / "file")
    (session / "folder").symlink_to(outside)
    make_directory(session, (4711, 4712))
    assert owner(session / "file") == owner(session / "folder") == (4711, 4712)
    for path in (outside, outside / "file", outside / "folder"):
        assert owner(path) == ME


@as_root
def test_a_file_that_has_a_name_outside_is_not_handed_over(tmp_path: Path) -> None:
    (tmp_path / "outside").touch()
    session = tmp_path / "session"
    (session / "folder").mkdir(parents=True)
    (session / "folder" / "linked").hardlink_to(tmp_path / "outside")
    make_directory(session, (4711, 4712))
    assert owner(tmp_path / "outside") == ME
    assert owner(session / "folder") == (4711, 4712)


@as_root
def test_a_directory_that_is_too_deep_is_an_error(tmp_path: Path) -> None:
    session = tmp_path / "session"
    session.mkdir()
    where = os.open(session, os.O_RDONLY)
    for _ in range(1100):
        os.mkdir("d", dir_fd=where)
        deeper = os.open("d", os.O_RDONLY, dir_fd=where)
        os.close(where)
        where = deeper
    os.close(where)
    try:
        with pytest.raises(ContainerError, match="deep"):
            make_directory(session, (4711, 4712))
    finally:
        subprocess.run(["rm", "-rf", session], check=True)  # pytest's own way is recursive, too


def test_a_directory_that_is_missing_is_made_for_its_owner_only(tmp_path: Path) -> None:
    session = tmp_path / "workspaces" / "session"
    make_directory(session, ME)
    assert session.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("kind", ["link", "file"])
def test_something_else_in_the_directorys_place_is_an_error(kind: str, tmp_path: Path) -> None:
    session = tmp_path / "session"
    if kind == "link":
        session.symlink_to(tmp_path)
    else:
        session.touch()
    with pytest.raises(ContainerError, match="directory"):
        make_directory(session, ME)


def test_a_warm_directory_becomes_the_sessions_with_all_that_is_in_it(tmp_path: Path) -> None:
    warm = tmp_path / ".warm" / "one"
    warm.mkdir(parents=True)
    (warm / "file").touch()
    inode = warm.stat().st_ino
    assert take_over(warm, tmp_path / "sessions" / "7")
    assert (tmp_path / "sessions" / "7").stat().st_ino == inode
    assert (tmp_path / "sessions" / "7" / "file").exists()
    assert not warm.exists()


def test_a_session_that_has_files_is_not_taken_over(tmp_path: Path) -> None:
    warm, session = tmp_path / "warm", tmp_path / "session"
    warm.mkdir()
    session.mkdir()
    (session / "work").write_text("kept")
    assert not take_over(warm, session)
    assert (session / "work").read_text() == "kept"
    assert warm.is_dir()


def test_a_link_in_the_sessions_place_is_not_replaced(tmp_path: Path) -> None:
    warm, outside, session = tmp_path / "warm", tmp_path / "outside", tmp_path / "session"
    warm.mkdir()
    outside.mkdir()
    session.symlink_to(outside)
    assert not take_over(warm, session)
    assert session.is_symlink()


def test_removing_a_directory_leaves_what_its_links_lead_to(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").touch()
    warm = tmp_path / "warm"
    warm.mkdir()
    (warm / "link").symlink_to(outside)
    remove_directory(warm)
    remove_directory(warm)
    assert not warm.exists()
    assert (outside / "file").exists()
