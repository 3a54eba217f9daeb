"""What agno does beside its work: nothing is sent elsewhere, printed, or imported too early."""

from __future__ import annotations

import asyncio
import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from executor.agents import agno as package
from executor.agents.agno.installed import is_installed
from executor.agents.agno.model_api import OwnApi
from shared.errors import RunError
from shared.status import ErrorCode
from tests.fakes.agent_jobs import take_turn
from tests.fakes.agno import Playing, delegates, playing_in, says


@pytest.fixture
def playing(tmp_path: Path) -> Playing:
    return playing_in(tmp_path)


async def test_nobody_but_the_model_is_spoken_to(
    playing: Playing, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AGNO_TELEMETRY", "true")
    asked: set[str] = set()
    looked_up = asyncio.BaseEventLoop.getaddrinfo

    async def look_up(loop: Any, host: Any, *args: Any, **more: Any) -> Any:
        asked.add(str(host))
        return await looked_up(loop, host, *args, **more)

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", look_up)
    leader = delegates("lead", "ann", "Say A", then="Ann said A.")
    async with playing(leader, says("ann", "A!"), says("solo", "Hello")) as agno:
        # It would go out from a thread of its own, at some later time.
        telemetry = (await asyncio.to_thread(importlib.import_module, "agno.api.api")).Api
        for way in ("post_in_background", "apost_in_background"):
            monkeypatch.setattr(telemetry, way, lambda *_: asked.add("telemetry"))
        bots = [agno.bot("lead"), agno.bot("ann")]
        async with agno.opened(*bots) as session:
            await take_turn(session, "Hi", bot=bots)
        async with agno.opened(agno.bot("solo")) as session:
            turn = await take_turn(session, "Hi")

    assert turn.end.result == "Hello"
    assert asked <= {"127.0.0.1", "localhost"}
    assert capfd.readouterr() == ("", "")
    assert list(Path.home().iterdir()) == []


async def test_no_key_and_no_header_of_the_environment_is_sent(
    playing: Playing, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, str]] = []

    async def refuse(request: web.Request) -> web.Response:
        seen.append({name.lower(): value for name, value in request.headers.items()})
        return web.json_response({}, status=400)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", refuse)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-from-environment")
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "from-environment")
    monkeypatch.setenv("ANTHROPIC_CUSTOM_HEADERS", "x-more: from-environment")
    try:
        async with playing() as agno:
            for given in ({"api_key": "sk-given"}, {"auth_token": "given"}):
                bot = agno.bot("solo", agent_config={"env": {"base_url": url, **given}})
                async with agno.opened(bot) as session:
                    await take_turn(session, "Hi")
    finally:
        await runner.cleanup()

    assert [headers.get("x-api-key") for headers in seen] == ["sk-given", None]
    assert [headers.get("authorization") for headers in seen] == [None, "Bearer given"]
    assert "environment" not in str(seen)


async def test_a_foreign_address_gets_no_key_of_the_executor(playing: Playing) -> None:
    async with playing() as agno:
        agno.own = {"anthropic": OwnApi("sk-own")}
        env = {"base_url": agno.model.url}
        job = agno.job(agno.bot("solo", agent_config={"env": {**env, "api_key": "x"}}))
        keyless = agno.bot("ann", agent_config={"env": {"base_url": "http://127.0.0.1:1"}})
        request = job.request.model_copy(
            update={"bot": [*job.request.bot, type(job.request.bot[0]).model_validate(keyless)]}
        )
        with pytest.raises(RunError) as failed:
            await agno.agent().open(_with(job, request))

    assert failed.value.error_code == ErrorCode.CREDENTIALS_MISSING


def _with(job: Any, request: Any) -> Any:
    from dataclasses import replace

    return replace(job, request=request)


def test_composing_an_executor_imports_neither_agno_nor_an_sdk_of_a_model() -> None:
    program = (
        "import sys, executor.bootstrap.local, executor.bootstrap.docker\n"
        "from executor.agents.agno.installed import is_installed\n"
        "assert is_installed()\n"
        "names = {name.partition('.')[0] for name in sys.modules}\n"
        "print(names & {'agno', 'anthropic', 'openai', 'mcp', 'httpx2', 'claude_agent_sdk'})"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert done.stdout == "set()\n"


def test_agno_is_loaded_in_an_executor_and_leaves_everybody_elses_loggers_alone() -> None:
    program = (
        "import asyncio, logging, pathlib, sys\n"
        "sys.modules['rich'] = None\n"  # as the running executor has it
        "from executor.agents.agno.agent import AgnoAgent\n"
        "before = logging.getLoggerClass()\n"
        "asyncio.run(AgnoAgent(pathlib.Path('/nowhere'), {}).load())\n"
        "assert logging.getLoggerClass() is before is not logging.Logger\n"
        "logging.getLogger('agno').error('a prompt')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_agno_counts_as_installed_only_with_all_that_it_needs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert is_installed()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "openai" else 1)
    assert not is_installed()


async def test_what_cannot_be_imported_fails_the_run_with_how_to_have_it(
    playing: Playing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "executor.agents.agno.session", None)
    monkeypatch.delattr(package, "session", raising=False)
    async with playing() as agno:  # a model that is never asked
        with pytest.raises(RunError, match="wegent-executor\\[agno\\]") as failed:
            await agno.agent().load()

    assert failed.value.error_code == ErrorCode.AGENT_ERROR
