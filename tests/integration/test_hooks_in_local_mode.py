"""Hooks of every kind beside a run in local mode, from the dispatch to the result."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from executor.agents.protocol import TurnEnd
from executor.bootstrap.hooks import with_hooks
from executor.config.local import LocalSettings
from executor.delivery.state import StateStore
from shared.protocol.events import AgentEvent, EventType
from shared.protocol.local import LocalEvent
from shared.redaction import Redactor
from tests.fakes.agent import ScriptedAgent, in_process
from tests.fakes.backend import open_backend
from tests.fakes.hook_packages import put_modules
from tests.fakes.local_mode import DISPATCH, Harness, result
from tests.fakes.run_handler import tool_call
from tests.fakes.s3 import FakeS3, running_s3

TODO = {"content": "write it", "status": "completed", "active_form": "Writing"}
TOOL_RESULT = {"tool_id": "1", "tool_name": "Bash", "result": "README", "is_error": False}


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[StateStore]:
    store = await StateStore.open(tmp_path / "backend-state.db")
    yield store
    await store.close()


@pytest.fixture
async def s3() -> AsyncIterator[FakeS3]:
    async with running_s3() as running:
        yield running


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "packages"
    folder.mkdir()
    put_modules(folder)
    (folder / "failing_hook.py").write_text(
        "from executor.hooks.base import Hook\n"
        "class FailingHook(Hook):\n"
        "    async def before_execution(self, config):\n"
        "        raise ValueError\n"
    )
    monkeypatch.syspath_prepend(folder)
    before = set(sys.modules)
    yield folder
    for name in set(sys.modules) - before:
        del sys.modules[name]


def put_program(home: Path) -> None:
    program = home / "hooks" / "notify"
    program.parent.mkdir(mode=0o700)
    program.write_text('#!/bin/sh\ncat >> "$(dirname "$0")/../told"\n')
    program.chmod(0o700)


def read_json(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


async def test_hooks_of_every_kind_see_a_run_whose_result_is_as_without_them(
    tmp_path: Path, store: StateStore, s3: FakeS3, packages: Path
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    put_program(home)
    settings = await asyncio.to_thread(
        LocalSettings,
        WEGENT_EXECUTOR_HOME=str(home),
        WEGENT_BACKEND_URL="http://127.0.0.1:1",
        WEGENT_AUTH_TOKEN="token",
        WEGENT_HOOKS="audited_hook:AuditedHook,failing_hook:FailingHook",
        S3_BUCKET="bucket",
        S3_ENDPOINT=s3.url,
        S3_ACCESS_KEY="the-key",
        S3_SECRET_KEY="the-secret",
    )
    gate = asyncio.Event()
    agent = ScriptedAgent(
        [
            tool_call(1, arguments={"command": "ls"}),
            AgentEvent(EventType.TOOL_RESULT, TOOL_RESULT),
            AgentEvent(EventType.TODOS, {"todos": [TODO]}),
            gate,
            TurnEnd("done"),
        ]
    )
    session = home / "workspace" / "1"
    async with asyncio.timeout(30), open_backend() as backend, in_process(agent, home) as inner:
        handler = await with_hooks(inner, settings, {"PATH": "/usr/bin:/bin"}, Redactor())
        harness = Harness(store, backend.port, handler=handler)
        async with harness.running():
            await backend.expect(LocalEvent.REGISTER)
            await backend.send(LocalEvent.DISPATCH, DISPATCH)
            while await agent.reached.get() != "gate":
                pass
            # A hook is reported in the stream only as long as the run goes on.
            while (await backend.expect(LocalEvent.PROGRESS))["event"]["action"] != "warning":
                pass
            (session / "output").mkdir(exist_ok=True)
            (session / "output" / "report.md").write_text("# done")
            gate.set()
            told = await result(backend)
            await handler.settled()
    assert (told["status"], told["result"]["value"]) == ("completed", "done")
    assert [file["path"] for file in told["result"]["workspace"]["files"]] == ["output/report.md"]
    assert (packages / "audit").read_text() == "('Bash', {'command': 'ls'}, 'README')\n"
    lines = [json.loads(line) for line in (home / "told").read_text().splitlines()]
    assert [line["hook"] for line in lines] == [
        "before_execution",
        "on_agent_turn",
        "on_tool_call",
        "after_execution",
    ]
    assert lines[-1]["success"] is True
    assert read_json(session / ".wegent" / "todos.json")["todos"] == [TODO]
    manifest = read_json(session / ".wegent" / "manifest.json")
    assert [file["path"] for file in manifest["files"]] == ["output/report.md"]
    assert [file["path"] for file in manifest["changed"]["files"]] == ["output/report.md"]
    assert s3.objects == {"bucket/1/output/report.md": b"# done"}
    warnings = [
        payload["data"]["message"]
        for payload in backend.payloads(LocalEvent.PROGRESS)
        if payload["event"]["action"] == "warning"
    ]
    assert warnings == ["hook failing_hook:FailingHook: before_execution raised ValueError"]
