"""Clones over ssh: real git, and an ``ssh`` that runs the remote command here."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from executor.tasks.workspace import Workspaces
from shared.errors import RunError
from shared.protocol.execution import ExecutionRequest, read_execution_request
from tests.fakes.git_server import make_repository


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    path = tmp_path / "programs"
    path.mkdir()
    return path


def put_ssh(programs: Path, then: str, name: str = "ssh") -> Path:
    """An ssh that notes its arguments and goes on with *then*; the path of its notes."""
    notes = programs / f"{name}.args"
    program = programs / name
    program.write_text(f'#!/bin/sh\necho "$@" >> {notes}\nfor last; do :; done\n{then}\n')
    program.chmod(0o755)
    return notes


def make_workspaces(tmp_path: Path, programs: Path, **environ: str) -> Workspaces:
    return Workspaces(
        tmp_path / "workspace",
        private_dir=tmp_path / "private",
        clone_timeout_s=30,
        allow_local_repositories=False,
        environ={**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", **environ},
        backend_url=None,
    )


def of(repository: Path) -> ExecutionRequest:
    return read_execution_request(
        {
            "task_id": 7,
            "subtask_id": 1,
            "prompt": "go",
            "git_url": f"git@host.example:{repository}",
            "git_token": "not-for-ssh",
        }
    )


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make_repository(tmp_path / "source" / "calc", {"calc.py": "x = 1\n"})


async def test_a_clone_over_ssh_asks_nobody_and_leaves_host_keys_to_the_user(
    tmp_path: Path, programs: Path, source: Path
) -> None:
    notes = put_ssh(programs, 'eval "$last"')

    workspace = await make_workspaces(tmp_path, programs).prepare(of(source))

    assert (workspace.cwd / "calc.py").exists()
    assert workspace.repository == f"git@host.example:{source}"
    arguments = notes.read_text()
    assert "BatchMode=yes" in arguments
    assert "StrictHostKeyChecking" not in arguments
    assert "not-for-ssh" not in arguments


async def test_the_users_own_ssh_command_is_kept(
    tmp_path: Path, programs: Path, source: Path
) -> None:
    notes = put_ssh(programs, 'eval "$last"', name="own-ssh")
    config = tmp_path / "gitconfig"
    config.write_text("[core]\n\tsshCommand = own-ssh\n")

    await make_workspaces(tmp_path, programs, GIT_CONFIG_GLOBAL=str(config)).prepare(of(source))

    assert "git-upload-pack" in notes.read_text()
    assert "BatchMode" not in notes.read_text()


@pytest.mark.parametrize(
    ("said", "hint"),
    [
        ("Host key verification failed.", "connect to the host once by hand"),
        ("git@host.example: Permission denied (publickey).", "add a key"),
        ("ssh: Could not resolve hostname host.example", "check the address"),
    ],
)
async def test_what_ssh_says_becomes_the_reason_with_what_to_do(
    tmp_path: Path, programs: Path, source: Path, said: str, hint: str
) -> None:
    put_ssh(programs, f'echo "{said}" >&2; exit 255')

    with pytest.raises(RunError, match=hint) as raised:
        await make_workspaces(tmp_path, programs).prepare(of(source))

    assert said in raised.value.message
