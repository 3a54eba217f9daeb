"""A new version has to answer before anything depends on it."""

from __future__ import annotations

from pathlib import Path

import pytest

from executor.updating import processes
from executor.updating.errors import UpdateError
from executor.updating.trial import troubles_of, version_of
from tests.fakes.programs import program, put


def executable(path: Path, content: bytes) -> Path:
    put(path, content, checksum=False).chmod(0o700)
    return path


def test_a_program_says_its_version(tmp_path: Path) -> None:
    assert version_of(executable(tmp_path / "new", program("2"))) == "wegent-executor 2"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\x7fELF of another machine", "does not run"),
        (b"#!/nowhere/interpreter\n", "does not run"),
        (b"#!/bin/sh\necho no library; exit 127\n", "no library"),
        (b"#!/bin/sh\nexit 1\n", "status 1"),
        (b"#!/bin/sh\necho another program 3\n", "is not wegent-executor"),
    ],
)
def test_what_does_not_run_is_no_version(tmp_path: Path, content: bytes, reason: str) -> None:
    with pytest.raises(UpdateError, match=reason):
        version_of(executable(tmp_path / "new", content))


@pytest.mark.parametrize("end", ["wait", "exit"])
def test_one_that_hangs_is_ended_with_its_children(tmp_path: Path, end: str) -> None:
    pids = tmp_path / "pids"
    hangs = f"#!/bin/sh\nsleep 1000 & echo $! > {pids}\n{end}\n".encode()

    with pytest.raises(UpdateError, match="within 1 s"):
        version_of(executable(tmp_path / "new", hangs), within_s=1)

    processes.wait_for_end(int(pids.read_text()), within_s=10)


def test_a_doctor_that_finds_something_is_quoted(tmp_path: Path) -> None:
    assert troubles_of(executable(tmp_path / "well", program())) is None
    ill = executable(tmp_path / "ill", program(doctor=1, says="no git"))
    assert troubles_of(ill) == "no git"
    assert "does not run" in str(troubles_of(executable(tmp_path / "not", b"\x7fELF")))
