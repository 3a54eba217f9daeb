"""A program in its place, another one that takes it, and the way back."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from executor.updating.errors import UpdateError
from executor.updating.program import ID_LENGTH, InstalledProgram
from tests.fakes.programs import NAME, archive, program, put, sha256


def single_file(home: Path) -> InstalledProgram:
    executable = put(home / "bin" / NAME, program("1"), checksum=False)
    executable.chmod(0o700)
    return InstalledProgram.of(executable)


def folder(home: Path) -> InstalledProgram:
    """As scripts/install.sh makes it."""
    packed = archive(program("1"))
    version = home / "versions" / sha256(packed)[:ID_LENGTH]
    executable = put(version / NAME, program("1"), checksum=False)
    executable.chmod(0o700)
    (version / "_internal").mkdir()
    (home / "bin").mkdir()
    (home / "bin" / NAME).symlink_to(Path("..") / "versions" / version.name / NAME)
    return InstalledProgram.of(executable.resolve())


def put_in_place(installed: InstalledProgram, content: bytes) -> None:
    fetched = put(installed.temporary(), content, checksum=False)
    installed.exchange(installed.prepare(fetched, sha256(content)))


def version_of(path: Path) -> str:
    return subprocess.check_output([path, "--version"], text=True).split()[1]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(params=["has filters", "before 3.11.4"])
def _both_pythons(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Archives are unpacked as well where tarfile does not know by itself what is harmless."""
    if request.param == "before 3.11.4":
        monkeypatch.delattr(tarfile, "data_filter", raising=False)
    elif not hasattr(tarfile, "data_filter"):
        pytest.skip("this Python has none")


@pytest.mark.usefixtures("_both_pythons")
@pytest.mark.parametrize("kind", [single_file, folder])
def test_another_version_takes_the_place_and_the_one_before_stays(
    tmp_path: Path, kind: object
) -> None:
    installed = single_file(tmp_path) if kind is single_file else folder(tmp_path)
    wrap = bytes if kind is single_file else archive

    put_in_place(installed, wrap(program("2")))
    assert version_of(tmp_path / "bin" / NAME) == "2"
    assert version_of(installed.previous) == "1"

    put_in_place(installed, wrap(program("3")))
    installed.tidy()
    assert version_of(tmp_path / "bin" / NAME) == "3"
    assert version_of(installed.previous) == "2"
    assert names(tmp_path / "bin") == [NAME, f"{NAME}.previous"]
    if installed.versions is not None:
        assert len(names(installed.versions)) == 2


def test_who_could_run_the_version_before_can_run_the_new_one(tmp_path: Path) -> None:
    installed = single_file(tmp_path)
    installed.entry.chmod(0o755)

    put_in_place(installed, program("2"))

    assert stat.S_IMODE(installed.entry.stat().st_mode) == 0o755


@pytest.mark.parametrize("kind", [single_file, folder])
def test_what_was_exchanged_can_be_put_back(tmp_path: Path, kind: object) -> None:
    installed = single_file(tmp_path) if kind is single_file else folder(tmp_path)
    put_in_place(installed, program("2") if kind is single_file else archive(program("2")))

    installed.put_back()
    installed.tidy()

    assert version_of(installed.entry) == "1"
    assert names(tmp_path / "bin") == [NAME]


@pytest.mark.parametrize("kind", [single_file, folder])
def test_going_back_twice_leads_to_the_newer_one_again(tmp_path: Path, kind: object) -> None:
    installed = single_file(tmp_path) if kind is single_file else folder(tmp_path)
    put_in_place(installed, program("2") if kind is single_file else archive(program("2")))

    installed.exchange(installed.prepare_previous())
    assert (version_of(installed.entry), version_of(installed.previous)) == ("1", "2")

    installed.exchange(installed.prepare_previous())
    assert (version_of(installed.entry), version_of(installed.previous)) == ("2", "1")


@pytest.mark.parametrize("kind", [single_file, folder])
def test_the_disk_is_waited_for_before_anything_is_exchanged(
    tmp_path: Path, kind: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = single_file(tmp_path) if kind is single_file else folder(tmp_path)
    content = program("2") if kind is single_file else archive(program("2"))
    written: list[bool] = []
    monkeypatch.setattr(
        os,
        "sync",
        lambda: written.append(
            any(path.read_bytes() == program("2") for path in tmp_path.rglob("*") if path.is_file())
        ),
    )

    prepared = installed.prepare(
        put(installed.temporary(), content, checksum=False), sha256(content)
    )
    assert written == [True]
    installed.exchange(prepared)
    assert written == [True]


def test_there_is_no_way_back_before_the_first_update(tmp_path: Path) -> None:
    with pytest.raises(UpdateError, match="no version before"):
        single_file(tmp_path).prepare_previous()


def test_a_running_folder_keeps_its_files(tmp_path: Path) -> None:
    installed = folder(tmp_path)
    running = installed.entry.resolve()

    put_in_place(installed, archive(program("2")))
    installed.tidy()

    assert version_of(running) == "1"


def test_the_version_that_is_there_is_known_by_its_checksum(tmp_path: Path) -> None:
    file, packed = single_file(tmp_path / "file"), folder(tmp_path / "folder")

    assert file.is_version(sha256(program("1")))
    assert not file.is_version(sha256(program("2")))
    assert packed.is_version(sha256(archive(program("1"))))
    assert not packed.is_version(sha256(archive(program("2"))))


def test_a_folder_that_was_put_there_by_hand_is_refused(tmp_path: Path) -> None:
    executable = put(tmp_path / "opt" / NAME, program(), checksum=False)
    (tmp_path / "opt" / "_internal").mkdir()

    with pytest.raises(UpdateError, match="has not installed"):
        InstalledProgram.of(executable)


def test_a_file_cannot_become_a_folder_or_the_reverse(tmp_path: Path) -> None:
    file, packed = single_file(tmp_path / "file"), folder(tmp_path / "folder")

    with pytest.raises(UpdateError, match="this is an archive"):
        put_in_place(file, archive(program("2")))
    with pytest.raises(UpdateError, match="only its"):
        put_in_place(packed, program("2"))
    assert version_of(file.entry) == version_of(packed.entry) == "1"


def linking(kind: bytes, target: str) -> bytes:
    """An archive whose folder has the program, and a link of this *kind*."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        content = program("2")
        entry = tarfile.TarInfo(f"folder/{NAME}")
        entry.mode, entry.size = 0o4777, len(content)
        tar.addfile(entry, io.BytesIO(content))
        link = tarfile.TarInfo("folder/link")
        link.type, link.linkname = kind, target
        tar.addfile(link)
    return packed.getvalue()


@pytest.mark.usefixtures("_both_pythons")
@pytest.mark.parametrize(
    ("packed", "reason"),
    [
        (archive(program("2"), name="other"), "does not hold"),
        (archive(program("2"))[:100], "cannot be unpacked"),
        (archive(program("2"), name="../../escaped"), "cannot be unpacked"),
        (linking(tarfile.SYMTYPE, "../../../escaped"), "cannot be unpacked"),
        (linking(tarfile.LNKTYPE, "../../bin/escaped"), "cannot be unpacked"),
        (linking(tarfile.FIFOTYPE, ""), "cannot be unpacked"),
    ],
)
def test_a_bad_archive_leaves_nothing(tmp_path: Path, packed: bytes, reason: str) -> None:
    installed = folder(tmp_path)
    before = names(tmp_path / "versions")

    with pytest.raises(UpdateError, match=reason):
        put_in_place(installed, packed)
    installed.tidy()

    assert names(tmp_path / "bin") == [NAME]
    assert names(tmp_path / "versions") == before


@pytest.mark.usefixtures("_both_pythons")
def test_links_within_the_folder_stay_and_nobody_else_may_write(tmp_path: Path) -> None:
    installed = folder(tmp_path)
    put_in_place(installed, linking(tarfile.SYMTYPE, NAME))
    there = (tmp_path / "bin" / NAME).resolve()
    assert (there.parent / "link").readlink() == Path(NAME)
    assert stat.S_IMODE(there.stat().st_mode) == 0o755


def test_without_hard_links_the_version_before_is_a_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "link", refuse)
    installed = single_file(tmp_path)

    put_in_place(installed, program("2"))

    assert version_of(installed.previous) == "1"


def test_where_nothing_that_runs_can_be_replaced_it_is_renamed(tmp_path: Path) -> None:
    installed = single_file(tmp_path)
    put_in_place(installed, program("2"))
    prepared = put(installed.temporary(), program("3"), checksum=False)
    prepared.chmod(0o700)

    installed._exchange_by_renames(prepared)

    assert (version_of(installed.entry), version_of(installed.previous)) == ("3", "2")
    with pytest.raises(FileNotFoundError):
        installed._exchange_by_renames(tmp_path / "missing")
    assert version_of(installed.entry) == "3"


def test_where_nothing_that_runs_can_be_replaced_it_goes_back_by_renames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = single_file(tmp_path)
    put_in_place(installed, program("2"))
    monkeypatch.setattr(sys, "platform", "win32")

    installed.put_back()

    assert version_of(installed.entry) == "1"
    (renamed,) = (tmp_path / "bin").glob(".*.new-*")
    assert version_of(renamed) == "2"
