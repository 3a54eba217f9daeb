"""status, tasks and cancel, against an executor's socket that answers as a test says."""

from __future__ import annotations

import asyncio
import codecs
import io
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from executor.cli import main
from executor.commands.parser import build_parser
from executor.control.errors import ControlError, NotRunning
from executor.control.server import ControlServer
from executor.exit_status import ExitStatus
from shared.protocol.events import utc_timestamp
from tests.fakes.terminal import Show

LONG_AGO = "2020-01-01T00:00:00.000Z"

STATUS: dict[str, Any] = {
    "state": "registered",
    "since": LONG_AGO,
    "draining": False,
    "last_error": None,
    "backend": "http://127.0.0.1:1",
    "last_heartbeat": LONG_AGO,
    "pid": 4711,
    "version": "1.2.3",
    "name": "工作站",
    "home": "/家",
    "started": LONG_AGO,
    "runs": {
        "running": 2,
        "waiting_for_input": 1,
        "paused": 0,
        "cancelling": 0,
        "queued": 3,
        "interrupted": 0,
    },
    "max_concurrent_tasks": 4,
    "outbox": 0,
    "disk": None,
}

TASK: dict[str, Any] = {
    "task_id": "7",
    "subtask_id": "70",
    "attempt": 1,
    "state": "running",
    "since": LONG_AGO,
    "agent": "claude_code",
    "waits_for": None,
}


class Executor:
    """The socket of an executor, and what it answers to each command."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.answers: dict[str, Any] = {"status": deepcopy(STATUS)}
        self.asked: list[Mapping[str, Any]] = []
        self.server = ControlServer(home, self.answer)

    async def answer(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        self.asked.append(request)
        answer: Mapping[str, Any] = self.answers[request["command"]]
        return answer


@pytest.fixture
async def executor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Executor]:
    monkeypatch.setenv("WEGENT_EXECUTOR_HOME", str(tmp_path))
    executor = Executor(tmp_path)
    await executor.server.start()
    yield executor
    await executor.server.close()


def command(*typed: str) -> int:
    arguments = build_parser().parse_args(typed)
    return int(arguments.command.run(arguments))


async def carry_out(*typed: str) -> int:
    async with asyncio.timeout(30):
        return await asyncio.to_thread(command, *typed)


async def test_a_status_is_one_line_for_each_fact(
    executor: Executor, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await carry_out("status") == 0
    lines = [re.split(r"  +", line) for line in capsys.readouterr().out.splitlines()]
    facts = {line[0]: line[1] for line in lines}
    assert facts["state"] == "registered"
    assert re.fullmatch(r"since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d \(\d+ d \d+ h\)", facts["connected"])
    assert re.fullmatch(r"\d+ d \d+ h ago", facts["heartbeat"])
    assert facts["runs"] == "2 running, 1 waiting for input, 3 queued"
    assert (facts["outbox"], facts["disk"]) == ("empty", "ok")
    assert (facts["name"], facts["home"]) == ("工作站", "/家")
    assert facts["process"] == "4711, version 1.2.3"
    assert not {"last error", "stopping"} & facts.keys()


async def test_what_is_wrong_is_in_the_status(
    executor: Executor, capsys: pytest.CaptureFixture[str]
) -> None:
    executor.answers["status"] |= {
        "state": "connecting",
        "last_error": "connection refused",
        "last_heartbeat": None,
        "draining": True,
        "runs": dict.fromkeys(STATUS["runs"], 0),
        "outbox": 12,
        "disk": "no space left",
    }
    assert await carry_out("status") == 0
    shown = capsys.readouterr().out
    for text in (
        "trying",
        "connection refused",
        "none acknowledged",
        "ends when its runs have ended",
        "none (up to 4 at a time)",
        "12 events to deliver",
        "no space left: runs stand still, new tasks are refused",
    ):
        assert text in shown


async def test_json_is_what_the_executor_has_said_and_nothing_else(
    executor: Executor, capsys: pytest.CaptureFixture[str]
) -> None:
    executor.answers["tasks"] = {"tasks": [TASK], "total": 1}
    for command in ("status", "tasks"):
        assert await carry_out(command, "--json") == 0
        assert json.loads(capsys.readouterr().out) == executor.answers[command]


async def test_tasks_are_a_table_with_what_each_waits_for(
    executor: Executor, capsys: pytest.CaptureFixture[str]
) -> None:
    waiting = {"state": "waiting_for_input", "waits_for": "user"}
    left = {"state": "interrupted", "waits_for": "backend", "agent": None}
    newer = {"state": "dreaming", "waits_for": "dawn", "since": utc_timestamp()}
    tasks = [TASK, TASK | waiting, TASK | left, TASK | newer]
    executor.answers["tasks"] = {"tasks": tasks, "total": 6}
    assert await carry_out("tasks") == 0
    printed = capsys.readouterr()
    heading, *rows = [re.split(r"  +", line) for line in printed.out.splitlines()]
    assert heading == ["TASK", "SUBTASK", "STATE", "FOR", "AGENT", "WAITS FOR"]
    assert [row[:3] + row[4:] for row in rows] == [
        ["7", "70", "running", "claude_code", "-"],
        ["7", "70", "waiting for input", "claude_code", "its user's answer"],
        ["7", "70", "interrupted", "-", "the backend to send it again"],
        ["7", "70", "dreaming", "claude_code", "dawn"],
    ]
    assert "2 more are not shown" in printed.err


async def test_a_terminal_shows_whole_ids_and_those_of_subtasks_when_they_are_needed(
    executor: Executor, show: Show
) -> None:
    run = TASK | {"task_id": "1" * 32, "subtask_id": "2" * 32, "waits_for": "backend"}

    async def tasks() -> str:
        async with asyncio.timeout(30):
            return await asyncio.to_thread(show, lambda: command("tasks"))

    executor.answers["tasks"] = {"tasks": [run], "total": 1}
    shown = await tasks()
    assert "1" * 32 in shown
    assert "2222" not in shown

    executor.answers["tasks"] = {"tasks": [run, run | {"subtask_id": "3" * 32}], "total": 2}
    shown = await tasks()
    assert "2" * 32 in shown
    assert "3" * 32 in shown


async def test_a_cancel_says_what_the_run_became(
    executor: Executor, capsys: pytest.CaptureFixture[str]
) -> None:
    executor.answers["cancel"] = {"task_id": "7", "subtask_id": "70", "verdict": "cancelled"}
    assert await carry_out("cancel", "70") == 0
    assert capsys.readouterr().out == "7/70: cancelled\n"
    assert executor.asked == [{"command": "cancel", "id": "70"}]


async def test_a_cancel_that_has_no_end_yet_is_an_error(executor: Executor) -> None:
    executor.answers["cancel"] = {"task_id": "7", "subtask_id": "70", "verdict": None}
    with pytest.raises(ControlError, match="7/70 has not ended yet"):
        await carry_out("cancel", "70")


@pytest.mark.parametrize("typed", [("status",), ("tasks",), ("tasks", "--json"), ("cancel", "7")])
async def test_without_an_executor_each_says_so(
    executor: Executor, typed: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    await executor.server.close()
    with pytest.raises(NotRunning):
        await carry_out(*typed)
    assert capsys.readouterr().out == ""


@pytest.mark.skipif(sys.platform != "linux", reason="needs /dev/full")
@pytest.mark.parametrize("stderr", ["none", "full", "closed"])
def test_the_exit_status_says_it_where_an_error_cannot_be_written(
    stderr: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEGENT_EXECUTOR_HOME", str(tmp_path))
    closed = io.StringIO()
    closed.close()
    with Path("/dev/full").open("wb", buffering=0) as device:  # keeps nothing to be written later
        full = io.TextIOWrapper(device, write_through=True)
        monkeypatch.setattr(sys, "stderr", {"none": None, "full": full, "closed": closed}[stderr])

        assert main(["status"]) == ExitStatus.NOT_RUNNING
        assert main(["logs"]) == ExitStatus.FAILURE


async def test_a_status_as_json_says_also_that_there_is_no_executor_or_no_answer(
    executor: Executor, capsys: pytest.CaptureFixture[str]
) -> None:
    del executor.answers["status"]
    with pytest.raises(ControlError):
        await carry_out("status", "--json")
    told = json.loads(capsys.readouterr().out)
    assert told.pop("last_error").startswith("internal error")
    assert told == {"state": "not_answering", "home": str(executor.home)}

    await executor.server.close()
    with pytest.raises(NotRunning):
        await carry_out("status", "--json")
    told = json.loads(capsys.readouterr().out)
    assert told == {"state": "not_running", "home": str(executor.home)}


class Watch:
    """A running ``status --watch``."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.shown = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    async def until(self, text: str, *, times: int = 1) -> None:
        """Wait until this was shown so often."""
        assert self._process.stdout is not None
        async with asyncio.timeout(50):
            while self.shown.count(text) < times:
                piece = await self._process.stdout.read(65536)
                assert piece, self.shown
                self.shown += self._decoder.decode(piece)

    async def end(self, number: signal.Signals = signal.SIGINT) -> int:
        """Send the signal; the exit status."""
        self._process.send_signal(number)
        async with asyncio.timeout(50):
            return await self._process.wait()


@pytest.fixture
async def watch(
    executor: Executor, repository_root: Path, request: pytest.FixtureRequest
) -> AsyncIterator[Watch]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "executor.main",
        "status",
        "--watch",
        *getattr(request, "param", ()),
        cwd=repository_root,
        env={"PATH": os.environ["PATH"], "WEGENT_EXECUTOR_HOME": str(executor.home)},
        stdout=asyncio.subprocess.PIPE,
    )
    yield Watch(process)
    if process.returncode is None:
        process.kill()
    await process.wait()


async def test_a_watch_in_a_pipe_tells_changes_and_ends_with_an_interrupt(
    executor: Executor, watch: Watch
) -> None:
    await watch.until("/家")
    executor.answers["status"]["last_heartbeat"] = utc_timestamp()
    asked = len(executor.asked)
    async with asyncio.timeout(50):
        while len(executor.asked) < asked + 2:  # noqa: ASYNC110 - whoever asks tells nobody
            await asyncio.sleep(0.05)
    executor.answers["status"]["outbox"] = 5
    await watch.until("5 events to deliver")
    assert watch.shown.count("registered") == 2
    await executor.server.close()
    await watch.until("not running")
    assert await watch.end() == 0


@pytest.mark.parametrize("watch", [("--json",)], indirect=True)
async def test_a_watch_as_json_is_one_document_after_the_other(
    executor: Executor, watch: Watch
) -> None:
    await watch.until("\n}\n")
    executor.answers["status"]["outbox"] = 5
    await watch.until("\n}\n", times=2)
    await executor.server.close()
    await watch.until("\n}\n", times=3)
    assert await watch.end() == 0
    decoder, told, rest = json.JSONDecoder(), [], watch.shown
    while rest:
        document, end = decoder.raw_decode(rest)
        told.append(document)
        rest = rest[end:].lstrip()
    assert told[0] == STATUS
    assert told[1] == STATUS | {"outbox": 5}
    assert told[2] == {"state": "not_running", "home": str(executor.home)}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_watch_on_a_terminal_gives_the_screen_back(
    executor: Executor, repository_root: Path, number: signal.Signals
) -> None:
    screen, line = os.openpty()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "executor.main", "status", "--watch"),
        cwd=repository_root,
        env={
            "PATH": os.environ["PATH"],
            "WEGENT_EXECUTOR_HOME": str(executor.home),
            "TERM": "xterm-256color",
        },
        stdout=line,
    )
    os.close(line)
    shown = b""
    try:
        async with asyncio.timeout(50):
            while shown.count("/家".encode()) < 2:
                shown += await asyncio.to_thread(os.read, screen, 65536)
            process.send_signal(number)
            assert await process.wait() == 0
        with suppress(OSError):  # nobody has the line open any more
            while piece := await asyncio.to_thread(os.read, screen, 65536):
                shown += piece
    finally:
        os.close(screen)
    text = shown.decode()
    before, _, after = text.partition("\x1b[?1049h")
    drawn, _, left = after.partition("\x1b[?1049l")
    assert before == ""
    assert drawn.count("\x1b[H\x1b[J") == drawn.count("registered") >= 2
    assert drawn.endswith("\x1b[?25h")
    assert left.count("registered") == 1
