from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from executor.tasks.repository.git import MAX_OUTPUT_BYTES, Git, GitFailed, GitMissing, GitTimedOut


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    path = tmp_path / "programs"
    path.mkdir()
    return path


def git_that(programs: Path, script: str, **environ: str) -> Git:
    """A runner whose ``git`` is a shell script."""
    program = programs / "git"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return Git({"PATH": f"{programs}:{os.environ['PATH']}", **environ}, allow_local=False)


async def test_git_gets_only_what_it_needs_of_the_environment(programs: Path) -> None:
    git = git_that(
        programs,
        "env",
        HOME="/home/ada",
        https_proxy="http://proxy",
        SSH_AUTH_SOCK="/agent",
        WEGENT_AUTH_TOKEN="s3cr3t",
        ANTHROPIC_API_KEY="s3cr3t",
        GIT_TRACE_CURL="1",
        GIT_CONFIG_PARAMETERS="'core.editor=x'",
        GIT_DIR="/elsewhere",
        LD_PRELOAD="/evil.so",
    )

    output = (await git.run("anything", timeout_s=10)).decode()

    environment = dict(line.split("=", 1) for line in output.splitlines() if "=" in line)
    assert environment["HOME"] == "/home/ada"
    assert environment["https_proxy"] == "http://proxy"
    assert environment["SSH_AUTH_SOCK"] == "/agent"
    assert environment["GIT_TERMINAL_PROMPT"] == "0"
    assert environment["GIT_ALLOW_PROTOCOL"] == "https:http:ssh"
    assert "s3cr3t" not in output
    assert not environment.keys() & {"GIT_TRACE_CURL", "GIT_CONFIG_PARAMETERS", "GIT_DIR"}
    assert "LD_PRELOAD" not in environment


@pytest.mark.parametrize("entry", ["", ".", "bin"])
async def test_no_git_is_taken_from_the_working_directory(tmp_path: Path, entry: str) -> None:
    planted = tmp_path / entry / "git"
    planted.parent.mkdir(exist_ok=True)
    planted.write_text("#!/bin/sh\necho planted\n")
    planted.chmod(0o755)
    git = Git({"PATH": f"{entry}{os.pathsep}{os.environ['PATH']}"}, allow_local=False)

    assert b"planted" not in await git.run("version", timeout_s=10, cwd=tmp_path)


@pytest.mark.parametrize(
    ("stderr", "reason"),
    [
        ("fatal: repository 'x' not found", "repository 'x' not found"),
        ("remote: Denied.\\nfatal: unable to access 'x': 403", "unable to access 'x': 403"),
        (
            "Host key verification failed.\\nfatal: Could not read from remote repository.\\n",
            "Host key verification failed.",
        ),
        ("warning: a\\r50%%\\rerror: b\\nhint: c", "b"),
        ("\\033[31mfatal: red\\007\\033[0m", "red"),
        ("something else", "something else"),
        ("", "git fetch failed without a word"),
    ],
)
async def test_a_failure_says_gits_own_reason(programs: Path, stderr: str, reason: str) -> None:
    git = git_that(programs, f"printf '{stderr.replace(chr(39), chr(34))}' >&2; exit 128")

    with pytest.raises(GitFailed) as raised:
        await git.run("fetch", timeout_s=10)

    assert str(raised.value) == reason.replace("'", '"')


async def test_a_machine_without_git_is_told_apart(tmp_path: Path) -> None:
    with pytest.raises(GitMissing, match="not installed"):
        await Git({"PATH": str(tmp_path)}, allow_local=False).run("version", timeout_s=10)


async def test_a_directory_that_is_gone_is_told_apart(programs: Path, tmp_path: Path) -> None:
    git = git_that(programs, "true")

    with pytest.raises(GitFailed, match="is gone"):
        await git.run("status", timeout_s=10, cwd=tmp_path / "nothing")


@pytest.fixture
async def held(tmp_path: Path) -> AsyncIterator[tuple[Path, asyncio.Task[bytes]]]:
    """A FIFO, and a task that ends when every process that has opened it for writing is dead."""
    path = tmp_path / "held"
    os.mkfifo(path)
    reading = asyncio.create_task(asyncio.to_thread(path.read_bytes))
    yield path, reading
    if not reading.done():
        path.write_bytes(b"")  # nobody ever opened it
    async with asyncio.timeout(30):
        await reading


async def test_a_timeout_ends_git_and_what_it_started(
    programs: Path, held: tuple[Path, asyncio.Task[bytes]]
) -> None:
    path, all_dead = held
    git = git_that(programs, f"trap '' TERM; exec 3> {path}; sleep 60 & wait; wait")

    with pytest.raises(GitTimedOut, match=r"git clone took longer than 0\.5 s"):
        await git.run("clone", timeout_s=0.5)

    async with asyncio.timeout(30):
        await all_dead


async def test_what_git_leaves_running_is_ended_and_does_not_hold_the_result(
    programs: Path, held: tuple[Path, asyncio.Task[bytes]]
) -> None:
    path, all_dead = held
    git = git_that(programs, f"exec 3> {path}; sleep 60 & echo done")

    output = await git.run("fetch", timeout_s=30)

    assert output == b"done\n"
    async with asyncio.timeout(30):
        await all_dead


async def test_too_much_output_is_cut_and_the_command_ended(programs: Path) -> None:
    git = git_that(programs, "exec yes")

    assert len(await git.run("ls-files", timeout_s=30)) == MAX_OUTPUT_BYTES


async def test_cancelling_twice_still_ends_the_processes(
    programs: Path, tmp_path: Path, held: tuple[Path, asyncio.Task[bytes]]
) -> None:
    path, all_dead = held
    os.mkfifo(tmp_path / "started")
    script = f"trap '' TERM; exec 3> {path}; sleep 60 & echo > {tmp_path}/started; wait; wait"
    running = asyncio.create_task(git_that(programs, script).run("clone", timeout_s=60))
    await asyncio.to_thread((tmp_path / "started").read_bytes)

    running.cancel()
    await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    async with asyncio.timeout(30):
        await all_dead
