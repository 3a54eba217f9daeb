"""How an executor starts, finds its backend, writes its log and stops when it has nothing to do."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
import tomllib
from collections.abc import Sequence
from pathlib import Path

import pytest
from aiohttp import web

from scripts.scripted_model import ScriptedModel
from shared.protocol.local import LocalEvent
from tests.fakes.backend import TOKEN, FakeBackend, open_backend
from tests.fakes.model import reaching, scenario, text_step
from tests.fakes.processes import MODULE, ROOT, executor_process
from tests.fakes.runs import RUN_SECONDS

UNREACHABLE = "Failed to connect to Backend WebSocket"
FAST = {"LOCAL_RECONNECT_DELAY": "0.01", "LOCAL_RECONNECT_MAX_DELAY": "0.01"}


def console_script() -> str:
    """What the installed command ``wegent-executor`` runs; it need not be installed here."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    module, _, function = project["scripts"]["wegent-executor"].partition(":")
    return f"import sys; from {module} import {function}; sys.exit({function}())"


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(MODULE, id="python -m executor.main"),
        pytest.param(["executor/main.py"], id="python executor/main.py"),
        pytest.param(["-c", console_script()], id="wegent-executor"),
    ],
)
async def test_every_way_to_start_registers_and_an_idle_executor_stops_with_status_0(
    tmp_path: Path, command: Sequence[str]
) -> None:
    settings = {"PYTHONPATH": ".", "EXECUTOR_MODE": ""}  # not set: a backend's URL means local
    async with (
        asyncio.timeout(RUN_SECONDS),
        open_backend() as backend,
        executor_process(tmp_path, backend.url, TOKEN, command=command, **settings) as executor,
    ):
        hello = await backend.expect(LocalEvent.REGISTER)
        await executor.registered()
        executor.program.signal(signal.SIGTERM)
        assert await executor.program.ended() == 0
        goodbye = await backend.expect(LocalEvent.UNREGISTER)
    assert goodbye["executor_id"] == hello["executor_id"]
    assert hello["executor_type"] == "local"
    assert hello["capabilities"] == ["claude_code", "agno"]
    assert hello["executor_id"] in (tmp_path / "executor_id").read_text()
    assert "Traceback" not in executor.program.output


async def test_a_wrong_token_ends_it_with_status_77_and_a_clear_sentence(tmp_path: Path) -> None:
    async with (
        asyncio.timeout(RUN_SECONDS),
        open_backend() as backend,
        executor_process(tmp_path, backend.url, "Zq8-not-the-token") as executor,
    ):
        assert await executor.program.ended() == 77
    last = executor.program.lines[-1]
    assert "refused" in last
    assert "WEGENT_AUTH_TOKEN" in last
    assert "Zq8-not-the-token" not in executor.program.output
    assert "Traceback" not in executor.program.output


async def test_without_a_token_it_ends_with_status_2_and_names_the_variable(tmp_path: Path) -> None:
    async with (
        asyncio.timeout(RUN_SECONDS),
        executor_process(tmp_path, "http://127.0.0.1:9", "") as executor,
    ):
        assert await executor.program.ended() == 2
    assert "WEGENT_AUTH_TOKEN is not set" in executor.program.output


async def test_it_tries_a_dead_backend_until_it_is_there(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    backend = FakeBackend()
    backend.port = port
    async with (
        asyncio.timeout(RUN_SECONDS),
        executor_process(tmp_path, backend.url, TOKEN, **FAST) as executor,
    ):
        await executor.program.says(UNREACHABLE, times=3)
        async with open_backend(backend):
            await backend.expect(LocalEvent.REGISTER)
        executor.program.signal(signal.SIGTERM)
        assert await executor.program.ended() == 0
    assert UNREACHABLE in executor.log


async def test_it_does_not_give_up_on_a_server_that_talks_something_else(tmp_path: Path) -> None:
    async def nonsense(_: web.Request) -> web.Response:
        return web.Response(text="<html>Zq8 welcome</html>")

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", nonsense)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        async with (
            asyncio.timeout(RUN_SECONDS),
            executor_process(tmp_path, url, TOKEN, **FAST) as executor,
        ):
            await executor.program.says(UNREACHABLE, times=3)
            executor.program.signal(signal.SIGTERM)
            assert await executor.program.ended() == 0
    finally:
        await runner.cleanup()
    assert "Traceback" not in executor.program.output


async def test_a_backend_that_answers_garbage_still_gets_its_runs_done(tmp_path: Path) -> None:
    async with (
        asyncio.timeout(RUN_SECONDS),
        ScriptedModel([scenario(text_step("done all the same"))]) as model,
        open_backend(FakeBackend.garbage()) as backend,
        executor_process(tmp_path, backend.url, TOKEN) as executor,
    ):
        await executor.registered()
        bot = {"agent_config": reaching(model.url)}
        request = {"task_id": "t", "subtask_id": "s", "prompt": "hello", "bot": bot}
        await backend.emit(LocalEvent.DISPATCH, request)
        result = await backend.expect(LocalEvent.RESULT)
        assert result["result"]["value"] == "done all the same"
        executor.program.signal(signal.SIGTERM)
        assert await executor.program.ended() == 0


async def test_a_home_has_one_executor_and_its_lock_dies_with_it(tmp_path: Path) -> None:
    async with asyncio.timeout(RUN_SECONDS), open_backend() as backend:
        async with executor_process(tmp_path, backend.url, TOKEN) as first:
            await first.registered()
            async with executor_process(tmp_path, backend.url, TOKEN) as second:
                assert await second.program.ended() == 2
            assert str(tmp_path) in second.program.output
            assert "Traceback" not in second.program.output
            first.program.signal(signal.SIGKILL)
            await first.program.ended()
        async with executor_process(tmp_path, backend.url, TOKEN) as third:
            await third.registered()
    ids = {payload["executor_id"] for payload in backend.payloads(LocalEvent.REGISTER)}
    assert (len(ids), backend.most_connections) == (1, 1)


LINE = re.compile(
    r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d - \[\w[\w.]*\] - \[in \S+\.py:\d+\] - "
    r"(DEBUG|INFO|WARNING|ERROR) - .+"
)


async def test_the_log_has_the_documented_format_and_the_ids_of_each_run(tmp_path: Path) -> None:
    request = {"task_id": 11, "subtask_id": 22, "prompt": "hello"}
    async with (
        asyncio.timeout(RUN_SECONDS),
        ScriptedModel([scenario(text_step("Zq8-answer"))]) as model,
        open_backend() as backend,
        executor_process(tmp_path, backend.url, TOKEN) as executor,
    ):
        await executor.registered()
        bot = {"agent_config": reaching(model.url)}
        assert (await backend.send(LocalEvent.DISPATCH, {**request, "bot": bot}))["accepted"]
        await backend.expect(LocalEvent.RESULT)
    lines = executor.log.splitlines()
    assert [line for line in lines if not LINE.fullmatch(line)] == []
    of_the_run = [line for line in lines if "task_id=11 subtask_id=22" in line]
    assert any("accepted" in line for line in of_the_run)
    assert any("run ended: completed" in line for line in of_the_run)
    assert "Zq8-answer" not in executor.log
    assert TOKEN not in executor.log


async def test_a_log_folder_that_cannot_be_written_is_a_warning_and_nothing_more(
    tmp_path: Path,
) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.touch()  # permissions would not keep root out
    async with (
        asyncio.timeout(RUN_SECONDS),
        open_backend() as backend,
        executor_process(
            tmp_path / "home", backend.url, TOKEN, WEGENT_EXECUTOR_LOG_DIR=str(in_the_way / "logs")
        ) as executor,
    ):
        await executor.registered()
        assert (await backend.send(LocalEvent.CLOSE, {"task_id": 1})) == {"success": True}
    assert "Failed to setup file logging" in executor.program.output
