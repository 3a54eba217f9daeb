"""What killed single-file programs leave is removed, and nothing else; a program and its loader."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from executor.file_lock import lock
from executor.packaged.unpacked import MARKER, UNPACKING_S, claim, remove_leftovers
from tests.fakes.users import another_user

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL and symbolic links")

PROGRAM = """
import sys
from pathlib import Path
from executor.packaged.unpacked import claim
claim(Path(sys.argv[1]))
print("claimed", flush=True)
sys.stdin.read()
"""

LOADER = """
import os, subprocess, sys
code = f'''
import sys
from executor.packaged.loader_death import end_with
end_with({{loader}})
print("bound", flush=True)
sys.stdin.read()
'''
child = subprocess.Popen([sys.executable, "-c", code.format(loader=os.getpid())])
print(child.pid, flush=True)
child.wait()
"""


def unpacked(temporary: Path, loader: int, *, name: str = "abc_12") -> Path:
    folder = temporary / f"_MEI{loader:08x}{name}"
    (folder / "lib").mkdir(parents=True)
    (folder / "lib" / "libpython.so").touch()
    (folder / MARKER).touch()
    return folder


def dead_pid() -> int:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


@contextmanager
def program_in(folder: Path, root: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A program that has claimed *folder*; killed at the end."""
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(folder)], cwd=root, stdin=pipe, stdout=pipe
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"claimed\n"
            yield process
        finally:
            process.kill()


def test_the_folder_of_a_killed_program_is_removed(tmp_path: Path, repository_root: Path) -> None:
    # Its loader's number has another process by now, which is no reason to keep it.
    folder = unpacked(tmp_path, os.getpid())
    with program_in(folder, repository_root):
        assert remove_leftovers(tmp_path) == []
        assert (folder / "lib" / "libpython.so").exists()
    assert remove_leftovers(tmp_path) == [folder]
    assert not folder.exists()


def test_the_folder_of_a_program_whose_loader_is_gone_stays_while_it_lives(
    tmp_path: Path, repository_root: Path
) -> None:
    folder = unpacked(tmp_path, dead_pid())
    with program_in(folder, repository_root):
        assert remove_leftovers(tmp_path) == []
        assert folder.exists()


def test_a_program_waits_for_whoever_is_just_looking_at_its_folder(tmp_path: Path) -> None:
    folder = unpacked(tmp_path, dead_pid())
    looking = os.open(folder / MARKER, os.O_RDWR)
    lock(looking)
    claiming = threading.Thread(target=claim, args=(folder,))
    claiming.start()
    claiming.join(0.1)
    os.close(looking)
    claiming.join()
    assert (folder / MARKER).read_text() == "locked\n"


def test_whoever_tidies_up_by_age_finds_the_folder_locked(
    tmp_path: Path, repository_root: Path
) -> None:
    folder = unpacked(tmp_path, os.getpid())
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with program_in(folder, repository_root), pytest.raises(BlockingIOError):
            lock(descriptor)
        lock(descriptor)
    finally:
        os.close(descriptor)


def test_a_folder_that_is_just_being_unpacked_stays(tmp_path: Path) -> None:
    folder = unpacked(tmp_path, os.getpid())
    assert remove_leftovers(tmp_path) == []
    assert folder.exists()


def test_a_folder_that_somebody_in_a_container_is_unpacking_stays(tmp_path: Path) -> None:
    folder = unpacked(tmp_path, dead_pid())  # a number of there, which nobody has here
    assert remove_leftovers(tmp_path) == []
    assert folder.exists()


def test_a_folder_whose_loader_was_killed_while_unpacking_is_removed(tmp_path: Path) -> None:
    folder = unpacked(tmp_path, dead_pid())
    before = time.time() - UNPACKING_S - 1
    os.utime(folder, (before, before))
    assert remove_leftovers(tmp_path) == [folder]
    assert not folder.exists()


def test_a_folder_that_could_not_be_removed_as_a_whole_is_removed_another_time() -> None:
    with tempfile.TemporaryDirectory() as name:
        temporary = Path(name)
        folder = unpacked(temporary, dead_pid())
        (folder / MARKER).write_text("locked\n")
        for path, mode in ((temporary, 0o755), (folder, 0o777), (folder / MARKER, 0o666)):
            path.chmod(mode)
        with another_user():  # who may not remove what is in lib
            assert remove_leftovers(temporary) == []
        assert (folder / "lib" / "libpython.so").exists()
        assert remove_leftovers(temporary) == [folder]
        assert not folder.exists()


def test_folders_of_others_stay(tmp_path: Path) -> None:
    unmarked = unpacked(tmp_path, dead_pid())
    (unmarked / MARKER).unlink()
    other_name = unpacked(tmp_path, dead_pid()).rename(tmp_path / "_MEI-mine")
    elsewhere = unpacked(tmp_path / "elsewhere", dead_pid())
    link = tmp_path / f"_MEI{dead_pid():08x}linked"
    link.symlink_to(elsewhere)
    linked_marker = unpacked(tmp_path, dead_pid())
    (linked_marker / MARKER).unlink()
    (linked_marker / MARKER).symlink_to(elsewhere / MARKER)
    assert remove_leftovers(tmp_path) == []
    for folder in (unmarked, other_name, elsewhere, link, linked_marker):
        assert (folder / "lib" / "libpython.so").exists()


def test_another_users_folder_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = unpacked(tmp_path, dead_pid())
    monkeypatch.setattr(os, "getuid", lambda: folder.stat().st_uid + 1)
    assert remove_leftovers(tmp_path) == []
    assert folder.exists()


def test_a_killed_loader_takes_its_program_with_it(repository_root: Path) -> None:
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-c", LOADER], cwd=repository_root, stdin=pipe, stdout=pipe
    ) as loader:
        assert loader.stdout is not None
        program = psutil.Process(int(loader.stdout.readline()))
        assert loader.stdout.readline() == b"bound\n"
        loader.send_signal(signal.SIGKILL)
        _, alive = psutil.wait_procs([program], timeout=10)
        assert alive == []


def test_a_program_whose_loader_died_before_it_looked_ends_at_once(repository_root: Path) -> None:
    imports = "from executor.packaged.loader_death import end_with"
    code = f"{imports}; end_with({dead_pid()}); print('alive')"
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=repository_root, capture_output=True, check=False
    )
    assert (ended.returncode, ended.stdout) == (-signal.SIGKILL, b"")
