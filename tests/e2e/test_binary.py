"""The built program, on a machine that has nothing of ours: an empty home and a minimal PATH."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from scripts.scripted_model import ScriptedModel
from scripts.scripted_scenario import Scenario
from shared.version import __version__
from tests.fakes.docker_mode import docker_process
from tests.fakes.model import reaching, scenario, step, text_step, tool_step
from tests.fakes.processes import (
    ExecutorProcess,
    ManagerProcess,
    executor_process,
    family,
    gone,
    manager_process,
)
from tests.fakes.scripted_cli import script

MINIMAL_PATH = "/usr/bin:/bin"

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL"),
]


@pytest.fixture
def temporary() -> Iterator[Path]:
    """Where the program is unpacked; short, since sockets have short names."""
    with tempfile.TemporaryDirectory(prefix="we-") as folder:
        yield Path(folder)


@dataclass(frozen=True)
class Machine:
    """A manager, and what is needed to start the built executor against it."""

    manager: ManagerProcess
    binary: Path
    claude: Path
    home: Path
    temporary: Path

    def executor(self, **variables: str) -> AbstractAsyncContextManager[ExecutorProcess]:
        """The built program; one after the other, with the same home."""
        return executor_process(
            self.home,
            self.manager.url,
            self.manager.executor_token,
            command=(),
            executable=str(self.binary),
            PATH=MINIMAL_PATH,
            TMPDIR=str(self.temporary),
            WEGENT_CLAUDE_PATH=str(self.claude),
            **variables,
        )

    def unpacked(self) -> list[Path]:
        return sorted(self.temporary.glob("_MEI*"))


@pytest.fixture
async def machine(
    tmp_path: Path, binary: Path, claude: Path, temporary: Path
) -> AsyncIterator[Machine]:
    async with manager_process(tmp_path / "manager") as manager:
        yield Machine(manager, binary, claude, tmp_path / "executor", temporary)


def ask(binary: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([binary, *arguments], env={}, capture_output=True, text=True, check=False)


def conversation() -> list[Scenario]:
    """A turn that stops in the middle of a message, what follows it, and one that remembers it."""
    half = {"file_path": "{cwd}/half.txt", "content": "half\n"}
    return [
        scenario(text_step("I remember"), prompt="And now?", history="Do it"),
        scenario(text_step("the rest"), prompt=["was cut off", "Do it"], name="continued"),
        scenario(
            tool_step("Write", half, text="I begin. "),
            step({"text": "This is "}, {"gate": "half"}, {"text": "all"}),
            prompt="Do it",
        ),
    ]


def test_beside_it_are_its_digest_and_what_is_inside(binary: Path) -> None:
    digest, name = binary.with_name("wegent-executor.sha256").read_text().split()
    assert name == "wegent-executor"
    assert digest == hashlib.sha256(binary.read_bytes()).hexdigest()
    listed = binary.with_name("wegent-executor.contents.txt").read_text()
    assert "pydantic_core" in listed
    # What makes such programs large: a second agent framework, object storage, the manager.
    for unwanted in ("agno", "obstore", "sqlalchemy", "cryptography", "executor_manager"):
        assert unwanted not in listed
    for needed in ("uvicorn", "fastapi", "sse_starlette", "aiodocker"):
        assert f"{needed} (Python)" in listed
    # Whatever is large says what it is for.
    parts = [line.split(maxsplit=2) for line in listed.splitlines()[3:-1]]
    large = [part for size, _, part in parts if int(size.replace(",", "")) > 50_000]
    assert len(large) > 20
    assert [part for part in large if ": " not in part] == []
    assert binary.stat().st_size < 30_000_000


def test_a_start_unpacks_no_more_and_inflates_no_more_than_it_has_to(binary: Path) -> None:
    listed = binary.with_name("wegent-executor.contents.txt").read_text().splitlines()[3:-1]
    parts = [line.split(maxsplit=2) for line in listed]
    assert [part for _, _, part in parts if "RECORD" in part or "INSTALLER" in part] == []
    libraries = {part: (size, unpacked) for size, unpacked, part in parts if "libcrypto" in part}
    assert len(libraries) == 1
    ((stored, unpacked),) = libraries.values()
    assert stored == unpacked


def test_it_answers_without_any_environment(binary: Path) -> None:
    version = ask(binary, "--version")
    assert (version.returncode, version.stderr) == (0, "")
    stamp = (
        rf"wegent-executor {re.escape(__version__)} \((unknown|\w{{10}}(\+changes)?), [\w-]+\)\n"
    )
    assert re.fullmatch(stamp, version.stdout)
    assert ask(binary, "--help").returncode == 0
    wrong = ask(binary, "--verison")
    assert (wrong.returncode, wrong.stdout) == (2, "")


def test_children_get_the_environment_from_before_the_loader(binary: Path, tmp_path: Path) -> None:
    programs, said = tmp_path / "bin", tmp_path / "environment"
    programs.mkdir()
    (programs / "git").write_text(f'#!/bin/sh\nenv > "{said}"\n')
    (programs / "git").chmod(0o755)
    before = {"HOME": str(tmp_path), "PATH": f"{programs}:{MINIMAL_PATH}", "LD_LIBRARY_PATH": "/x"}
    subprocess.run([binary, "doctor"], env=before, capture_output=True, check=False)
    environ = dict(line.split("=", 1) for line in said.read_text().splitlines())
    assert before.items() <= environ.items()
    assert environ.keys() - before.keys() <= {"PWD", "OLDPWD", "SHLVL", "_"}  # the shell's own


async def test_a_task_its_follow_up_and_a_cancel(machine: Machine) -> None:
    async with ScriptedModel(conversation()) as model, machine.executor() as executor:
        await executor.registered()
        config = reaching(model.url)
        async with machine.manager.following("Do it", config) as live:
            await live.reaches(model.gate("half"))
            model.gate("half").release()
            first = await live.finished()
        assert first.answer == "This is all"
        assert (first.cwd / "half.txt").read_text() == "half\n"
        second = await machine.manager.run("And now?", config, live.session_id)
        assert second.answer == "I remember"

    async with ScriptedModel(conversation()) as model, machine.executor() as executor:
        await executor.registered()
        async with machine.manager.following("Do it", reaching(model.url)) as live:
            await live.reaches(model.gate("half"))
            [program] = psutil.Process(executor.program.pid).children()
            agents = program.children(recursive=True)
            await machine.manager.client.cancel(live.task_id, "enough")
            assert (await live.finished()).verdict == ("cancelled", None)
            assert await gone(agents)


async def test_a_stop_lets_its_run_finish_and_leaves_nothing(machine: Machine) -> None:
    async with ScriptedModel(conversation()) as model, machine.executor() as executor:
        await executor.registered()
        async with machine.manager.following("Do it", reaching(model.url)) as live:
            await live.reaches(model.gate("half"))
            processes = family(executor.program.pid)
            [program] = psutil.Process(executor.program.pid).children()
            # As a terminal does it: both processes hear a Ctrl-C, which is one all the same.
            program.send_signal(signal.SIGINT)
            executor.program.signal(signal.SIGINT)
            await executor.program.says("stopping")
            model.gate("half").release()
            assert (await live.finished()).answer == "This is all"
        assert await executor.program.ended() == 0
        assert await gone(processes)
    assert machine.unpacked() == []


async def test_it_serves_tasks_over_http(binary: Path, tmp_path: Path, temporary: Path) -> None:
    mode = docker_process(tmp_path, command=(), executable=str(binary), TMPDIR=str(temporary))
    async with mode as executor:
        await executor.client.execute(prompt=script("Hello."))
        assert (await executor.client.finished("1"))["result"] == "Hello."
        executor.program.signal(signal.SIGTERM)
        assert await executor.program.ended() == 0


async def test_sigterm_ends_it_clean(machine: Machine) -> None:
    async with machine.executor() as executor:
        await executor.registered()
        assert len(machine.unpacked()) == 1
        executor.program.signal(signal.SIGTERM)
        assert await executor.program.ended() == 0
    assert machine.unpacked() == []


async def test_a_killed_one_takes_its_program_along_and_its_run_goes_on_after_the_next_start(
    machine: Machine,
) -> None:
    async with ScriptedModel(conversation()) as model, machine.executor() as first:
        await first.registered()
        async with machine.manager.following("Do it", reaching(model.url)) as live:
            await live.reaches(model.gate("half"))
            await live.until("llm.tool_result")
            [program] = psutil.Process(first.program.pid).children()
            first.program.signal(signal.SIGKILL)
            assert await first.program.ended() == -signal.SIGKILL
            assert await gone([program])
            [leftover] = machine.unpacked()
            async with machine.executor() as second:
                await second.program.says("removed the unpacked files")
                assert not leftover.exists()
                assert len(machine.unpacked()) == 1
                assert (await live.finished()).answer == "the rest"
                assert not await asyncio.to_thread(_left, machine, second)
    assert machine.unpacked() == []


def _left(machine: Machine, executor: ExecutorProcess) -> list[psutil.Process]:
    """Agents that are not below the running executor."""
    below = {process.pid for process in family(executor.program.pid)}
    return [
        process
        for process in psutil.process_iter(["cwd"])
        if str(process.info["cwd"] or "").startswith(str(machine.home / "workspace"))
        and process.pid not in below
    ]
