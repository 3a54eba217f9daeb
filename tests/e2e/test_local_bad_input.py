"""Unusable requests, over the bare wire and over HTTP: refused by name, and without a trace."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from scripts.scripted_model import ScriptedModel
from shared.protocol.local import LocalEvent
from tests.fakes.backend import TOKEN, FakeBackend, open_backend
from tests.fakes.model import reaching, scenario, text_step, tool_step
from tests.fakes.processes import ExecutorProcess, ManagerProcess, executor_process, system
from tests.fakes.runs import RUN_SECONDS

pytestmark = pytest.mark.asyncio(loop_scope="module")

MARK = "touched-by-bad-input"
"""Part of what bad input would create, or must not show up in an answer."""

STRICT = {"LOCAL_ALLOW_LOCAL_REPOSITORIES": "false", "CLAUDE_MAX_WARM_SESSIONS": "0"}
TEN_MEGABYTES = "Zq8 " * (10 * 2**20 // 4)


@dataclass(frozen=True)
class Wire:
    """A registered executor, and the backend that it talks to."""

    backend: FakeBackend
    executor: ExecutorProcess


def left_in(executor: ExecutorProcess) -> list[Path]:
    """What bad input has left in the workspace, where only :data:`TAKEN` may be."""
    return [path for path in executor.workspace.iterdir() if path.name not in TAKEN]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def wire(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Wire]:
    home = tmp_path_factory.mktemp("wire")
    async with (
        open_backend() as backend,
        executor_process(home, backend.url, TOKEN, **STRICT) as executor,
    ):
        await executor.registered()
        yield Wire(backend, executor)


TAKEN = {"0", "unreadable"}
"""Sessions of the requests of this file that are not refused."""


def good(**changes: Any) -> dict[str, Any]:
    """A request without fault, but for *changes*; ``None`` leaves a field out."""
    whole = {"task_id": 1, "subtask_id": 2, "prompt": "hello", **changes}
    return {name: value for name, value in whole.items() if value is not None}


BAD_REQUESTS: dict[str, tuple[Any, str]] = {
    "text": ("hello", "object"),
    "number": (5, "object"),
    "list": ([good()], "object"),
    "nothing": (None, "object"),
    "no task_id": (good(task_id=None), "task_id"),
    "no subtask_id": (good(subtask_id=None), "subtask_id"),
    "no prompt": (good(prompt=None), "prompt"),
    "empty prompt": (good(prompt=""), "prompt"),
    "blank prompt": (good(prompt=" \n\t "), "prompt"),
    "number as prompt": (good(prompt=5), "prompt"),
    "unknown block": (good(prompt=[{"type": MARK}]), "prompt"),
    "10 MB prompt": (good(prompt=TEN_MEGABYTES), "prompt"),
    "boolean id": (good(task_id=True), "task_id"),
    "fraction as id": (good(task_id=1.5), "task_id"),
    "list as id": (good(subtask_id=[1]), "subtask_id"),
    "negative id": (good(task_id=-1), "task_id"),
    "path as id": (good(task_id=f"../{MARK}"), "task_id"),
    "absolute path as id": (good(task_id=f"/{MARK}"), "task_id"),
    "dots as id": (good(task_id=".."), "task_id"),
    "slash in id": (good(subtask_id=f"a/{MARK}"), "subtask_id"),
    "NUL in id": (good(task_id=f"a\0{MARK}"), "task_id"),
    "long id": (good(task_id="a" * 300), "task_id"),
    "device as id": (good(task_id="CON"), "task_id"),
    "attempt 0": (good(attempt=0), "attempt"),
    "text as attempt": (good(attempt=MARK), "attempt"),
    "text as bot": (good(bot=MARK), "bot"),
    "text as env": (good(bot={"agent_config": {"env": MARK}}), "env"),
    "text as max_turns": (good(max_turns="many"), "max_turns"),
    "endless timeout": (good(timeout_seconds=-1), "timeout_seconds"),
    "unknown isolation": (good(isolation=MARK), "isolation"),
    "session to resume": (good(sdk_session_id=f"../{MARK}"), "sdk_session_id"),
    "option as url": (good(git_url=f"--upload-pack=touch {MARK}"), "git_url"),
    "option without space": (good(git_url=f"-oProxyCommand={MARK}"), "git_url"),
    "remote helper": (good(git_url=f"ext::sh -c touch% {MARK}"), "git_url"),
    "file url": (good(git_url="file:///etc"), "git_url"),
    "path as url": (good(git_url="/etc"), "git_url"),
    "unknown scheme": (good(git_url=f"gopher://h/{MARK}"), "git_url"),
    "option as ssh host": (good(git_url=f"ssh://-oProxyCommand={MARK}/x"), "git_url"),
    "option as branch": (good(git_url="https://h/r", branch_name="-fx"), "branch_name"),
    "range as branch": (good(git_url="https://h/r", branch="a..b"), "branch"),
    "attachment without name": (good(attachments=[{"content_base64": ""}]), "filename"),
    "attachment without content": (good(attachments=[{"filename": "a"}]), "attachments"),
    "attachment from a file": (good(attachments=[{"filename": "a", "url": "file:///x"}]), "url"),
}


@pytest.mark.parametrize("case", BAD_REQUESTS)
async def test_a_bad_dispatch_is_refused_by_name_and_leaves_no_trace(wire: Wire, case: str) -> None:
    request, field = BAD_REQUESTS[case]
    connections = list(wire.backend.connections)
    ack = await wire.backend.send(LocalEvent.DISPATCH, request)
    assert (ack["accepted"], ack["code"]) == (False, "invalid_request")
    assert field in ack["error"]
    assert MARK not in ack["error"]
    assert left_in(wire.executor) == []
    assert wire.backend.connections == connections


async def test_an_unknown_agent_is_refused_with_the_list_of_known_ones(wire: Wire) -> None:
    ack = await wire.backend.send(LocalEvent.DISPATCH, good(agent_type="hal9000"))
    assert (ack["accepted"], ack["code"]) == (False, "unsupported_agent")
    assert "claude_code" in ack["error"]
    assert left_in(wire.executor) == []


@pytest.mark.parametrize("event", ["local:task:cancel", "local:task:input", "local:task:close"])
@pytest.mark.parametrize("payload", [None, "x", [], {}, {"task_id": "../x"}, {"task_id": -1}])
async def test_other_messages_with_nonsense_are_answered(
    wire: Wire, event: str, payload: Any
) -> None:
    ack = await wire.backend.send(event, payload)
    assert ack["success"] is False
    assert ack["code"]


async def test_an_attachment_that_cannot_be_read_fails_its_run_only(wire: Wire) -> None:
    attachments = [{"filename": "a.txt", "content_base64": "%%%"}]
    request = good(task_id="unreadable", attachments=attachments)
    async with asyncio.timeout(RUN_SECONDS):
        assert (await wire.backend.send(LocalEvent.DISPATCH, request))["accepted"]
        result = await wire.backend.expect(LocalEvent.RESULT)
    assert (result["status"], result["result"]["error_code"]) == ("failed", "attachment_failed")
    assert "a.txt" in result["result"]["error"]
    assert not list(wire.executor.workspace.rglob("a.txt"))


ODD_NAMES = [
    f"../{MARK}.txt",
    f"../../../../{MARK}.txt",
    f"/etc/{MARK}.txt",
    f"C:\\Windows\\{MARK}.txt",
    f"a\0{MARK}.txt",
    "x" * 300 + ".txt",
    "CON",
    "nul.txt",
    "..",
    "-rf",
    "a:b.txt",
]


async def test_odd_attachment_names_stay_in_their_folder_and_id_0_is_an_id(wire: Wire) -> None:
    content = base64.b64encode(b"attached").decode()
    attachments = [{"filename": name, "content_base64": content} for name in ODD_NAMES]
    job = [tool_step("Bash", {"command": "cat ../0/attachments/* | wc -c"}), text_step("read")]
    async with asyncio.timeout(RUN_SECONDS), ScriptedModel([scenario(*job)]) as model:
        bot = {"agent_config": reaching(model.url)}
        request = good(task_id=0, subtask_id=0, bot=bot, attachments=attachments)
        ack = await wire.backend.send(LocalEvent.DISPATCH, request)
        assert ack["accepted"], ack
        result = await wire.backend.expect(LocalEvent.RESULT)
    # The bad requests before it, of this and other files, have not kept it from this one.
    assert (result["status"], result["result"]["value"]) == ("completed", "read")
    assert (result["task_id"], result["subtask_id"]) == (0, 0)
    folder = wire.executor.workspace / "0" / "attachments"
    files = list(folder.iterdir())
    assert len(files) == len(ODD_NAMES)
    assert all(path.is_file() and path.read_bytes() == b"attached" for path in files)
    names = {path.name for path in files}
    assert not names & {"CON", "nul.txt", "-rf", "a:b.txt"}
    everywhere = set(wire.executor.home.rglob(f"*{MARK}*"))
    assert everywhere <= set(files)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def doors(
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[tuple[ManagerProcess, ExecutorProcess]]:
    async with system(tmp_path_factory.mktemp("doors"), **STRICT) as both:
        yield both


BAD_TASKS: dict[str, tuple[Any, str]] = {
    "text": ("hello", "object"),
    "nothing": (None, "body"),
    "no prompt": ({"user_id": "u"}, "prompt"),
    "empty prompt": ({"user_id": "u", "prompt": " "}, "prompt"),
    "no user": ({"prompt": "hi"}, "user_id"),
    "misspelt field": ({"user_id": "u", "prompt": "hi", "promt": 1}, "promt"),
    "text as config": ({"user_id": "u", "prompt": "hi", "config": "x"}, "config"),
    **{
        name: ({"user_id": "u", "prompt": "hi", "config": {key: value}}, key)
        for name, key, value in [
            ("option as url", "repo_url", f"--upload-pack={MARK}"),
            ("remote helper", "repo_url", f"ext::sh -c {MARK}"),
            ("option as branch", "git_branch", f"-{MARK}"),
            ("text as limit", "max_turns", MARK),
            ("text as env", "env", MARK),
            ("unknown mode", "permission_mode", MARK),
            ("attachment without content", "attachments", [{"filename": MARK}]),
        ]
    },
}


@pytest.mark.parametrize("case", BAD_TASKS)
async def test_a_bad_task_is_refused_by_the_api_by_name(
    doors: tuple[ManagerProcess, ExecutorProcess], case: str
) -> None:
    manager, executor = doors
    body, field = BAD_TASKS[case]
    headers = {"Authorization": f"Bearer {manager.api_token}"}
    async with (
        aiohttp.ClientSession(manager.url, headers=headers) as http,
        http.post("/api/v1/tasks", json=body) as response,
    ):
        assert response.status == 422
        error = (await response.json())["error"]
    assert error["code"] == "invalid_request"
    assert field in error["message"]
    assert MARK not in str(error)
    assert left_in(executor) == []


@pytest.mark.parametrize(
    ("config", "code"),
    [
        ({"agent_type": "hal9000"}, "unsupported_agent"),
        ({"repo_url": "file:///etc"}, "invalid_request"),
        ({"isolation": "container"}, "isolation_unavailable"),
    ],
)
async def test_what_only_the_executor_can_refuse_becomes_the_runs_one_verdict(
    doors: tuple[ManagerProcess, ExecutorProcess], config: dict[str, Any], code: str
) -> None:
    manager, executor = doors
    run = await manager.run("hello", config)
    assert run.verdict == ("failed", code)
    assert run.kinds == ["lifecycle.failed"]
    assert run.error
    assert left_in(executor) == []


async def test_the_executor_takes_the_next_task_of_the_api(
    doors: tuple[ManagerProcess, ExecutorProcess],
) -> None:
    async with ScriptedModel([scenario(text_step("still here"))]) as model:
        assert (await doors[0].run("hello", reaching(model.url))).answer == "still here"
