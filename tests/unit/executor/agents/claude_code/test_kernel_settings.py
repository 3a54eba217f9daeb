from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from executor.agents.claude_code.kernel_settings import place_bubblewrap
from shared.errors import RunError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="bubblewrap is for Linux")


@pytest.fixture
def env(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Of an executor that runs as root, with a bubblewrap that only tells what it was given."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    programs = tmp_path / "it's here"
    programs.mkdir()
    (programs / "bwrap").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (programs / "bwrap").chmod(0o755)
    return {"PATH": f"{programs}:{os.defpath}"}


def told(folder: Path, *arguments: str) -> list[str]:
    done = subprocess.run([folder / "bwrap", *arguments], capture_output=True, text=True)
    return done.stdout.splitlines()


def test_settings_of_the_kernel_are_read_only_where_proc_is_mounted(
    tmp_path: Path, env: dict[str, str]
) -> None:
    folder = place_bubblewrap(tmp_path / "bin", env)
    assert folder is not None
    before, after = ["--dir", "a  b", "*", ""], ["--", "sh", "--proc", "/x", "--"]
    kept = ["--ro-bind", "/proc/sys", "/proc/sys"]
    assert told(folder, *before, "--proc", "/proc", "--unshare-net", *after) == [
        *before, "--proc", "/proc", *kept, "--unshare-net", *after
    ]  # fmt: skip
    assert told(folder, "--version") == ["--version"]


def test_nobody_but_root_needs_it(
    tmp_path: Path, env: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert place_bubblewrap(tmp_path / "bin", env) is None


def test_no_bubblewrap_is_made_up_where_there_is_none(tmp_path: Path, env: dict[str, str]) -> None:
    assert place_bubblewrap(tmp_path / "bin", {"PATH": str(tmp_path)}) is None
    assert not (tmp_path / "bin").exists()


def test_a_place_where_nothing_can_be_started_is_no_sandbox(
    tmp_path: Path, env: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    access = os.access
    noexec = tmp_path / "bin" / "bwrap"
    monkeypatch.setattr(os, "access", lambda path, mode: path != noexec and access(path, mode))
    with pytest.raises(RunError, match="no program can be started") as refused:
        place_bubblewrap(tmp_path / "bin", env)
    assert refused.value.error_code == "isolation_unavailable"
