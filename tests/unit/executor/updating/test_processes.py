"""Who runs from a file, as the process table has it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from executor.updating import processes


@contextmanager
def waiting(*argv: str | Path) -> Iterator[int]:
    """A program that waits for the end of its input."""
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        yield process.pid


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A real program of its own: one that waits without arguments, and with a file's name."""
    found = shutil.which("cat")
    assert found is not None
    return Path(shutil.copy(found, tmp_path / "wegent-executor")).resolve()


def test_an_executor_is_a_process_of_the_file_that_runs_tasks(copy: Path, tmp_path: Path) -> None:
    other = Path(shutil.copy(copy, tmp_path / "other"))
    with waiting(copy) as plain, waiting(copy, "-"), waiting(other):
        assert processes.executors_from(copy) == {plain}


def test_a_family_are_those_above_and_those_below() -> None:
    with waiting("sh", "-c", "cat; :") as shell:
        (cat,) = _children(shell)
        assert processes.family_of(shell) >= {os.getpid(), shell, cat}
        assert shell in processes.family_of(cat)


def test_a_process_that_is_gone_has_no_family() -> None:
    with waiting("true") as gone:
        pass
    assert processes.family_of(gone) == {gone}


def test_an_ancestor_is_who_started_this_one() -> None:
    assert processes.is_ancestor(os.getppid())
    with waiting("cat") as child:
        assert not processes.is_ancestor(child)


def test_a_process_is_stopped_and_waited_for() -> None:
    with waiting("cat") as pid:
        processes.stop(pid, within_s=10)
        processes.stop(pid, within_s=10)
        assert psutil.Process(pid).status() == psutil.STATUS_ZOMBIE  # it is ours to reap


def test_one_that_does_not_stop_is_not_waited_for_forever() -> None:
    with waiting("cat") as pid, pytest.raises(TimeoutError):
        processes.wait_for_end(pid, within_s=0.01)


def _children(pid: int) -> list[int]:
    while not (children := psutil.Process(pid).children()):
        pass
    return [child.pid for child in children]
