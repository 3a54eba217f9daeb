"""Whether the sandbox works is found out by trying it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from executor.tasks import sandbox_probe
from executor.tasks.sandbox_probe import probe_sandbox


def programs(folder: Path, **scripts: str) -> dict[str, str]:
    folder.mkdir()
    for name, script in scripts.items():
        program = folder / name.replace("_", "-")
        program.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        program.chmod(0o755)
    return {"PATH": str(folder)}


@pytest.mark.skipif(sys.platform != "linux", reason="needs bubblewrap")
def test_a_machine_with_both_programs_has_a_sandbox() -> None:
    assert probe_sandbox(os.environ) is None


def test_missing_programs_are_named_with_the_command_that_installs_them(tmp_path: Path) -> None:
    problem = probe_sandbox(programs(tmp_path / "bin", apt_get="", socat=""), platform="linux")
    assert problem is not None
    assert problem.reason == "bwrap not installed"
    assert "apt-get install --yes bubblewrap socat" in problem.remedy


def test_a_sandbox_that_the_system_forbids_is_none(tmp_path: Path) -> None:
    bwrap = "echo 'bwrap: No permissions to create new namespace' >&2; exit 1"
    environ = programs(tmp_path / "bin", bwrap=bwrap, socat="")
    problem = probe_sandbox(environ, platform="linux", kernel_settings=tmp_path)
    assert problem is not None
    assert "No permissions to create new namespace" in problem.reason
    assert "namespaces" in problem.remedy


def test_what_the_kernel_forbids_is_allowed_by_the_command_that_is_named(tmp_path: Path) -> None:
    setting = tmp_path / "sys" / "kernel" / "apparmor_restrict_unprivileged_userns"
    setting.parent.mkdir(parents=True)
    setting.write_text("1\n", encoding="ascii")
    environ = programs(tmp_path / "bin", bwrap="exit 1", socat="")
    problem = probe_sandbox(environ, platform="linux", kernel_settings=tmp_path / "sys")
    assert problem is not None
    assert problem.remedy == "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"


def test_a_sandbox_that_does_not_answer_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox_probe, "PROBE_TIMEOUT_S", 0.1)
    environ = programs(tmp_path / "bin", bwrap="exec /bin/sleep 60", socat="")
    problem = probe_sandbox(environ, platform="linux")
    assert problem is not None
    assert "does not answer" in problem.reason


def test_other_systems_have_none() -> None:
    problem = probe_sandbox({}, platform="win32")
    assert problem is not None
    assert "win32" in problem.reason
