"""What carries out runs, as both modes compose it."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest

from executor.agents.claude_code.location import ClaudeSearch
from executor.bootstrap.runs import Means, find_means, in_process
from executor.config.docker import DockerSettings
from executor.config.local import LocalSettings
from executor.delivery.state import StateStore
from executor.signals import StopSignals
from executor.tasks.isolation import IsolationRules
from shared.protocol.execution import Isolation
from tests.fakes.agent_jobs import JobMaker, take_turn
from tests.fakes.openai_api import openai_api


@pytest.mark.parametrize(
    ("settings_of", "for_all_agents"),
    [(LocalSettings, False), (DockerSettings, False), (DockerSettings, True)],
    ids=["local", "docker", "EXECUTOR_ENV"],
)
async def test_the_executors_own_openai_key_and_address_reach_agno(
    settings_of: type[LocalSettings | DockerSettings], for_all_agents: bool, tmp_path: Path
) -> None:
    variables = {
        "WEGENT_EXECUTOR_HOME": tmp_path / "home",
        "WEGENT_BACKEND_URL": "https://backend.example",
        "WEGENT_AUTH_TOKEN": "t",
    }
    no_claude = ClaudeSearch(None, (), "")
    means = Means(dict(os.environ), IsolationRules(Isolation.NONE, None), no_claude, has_agno=True)
    state = await StateStore.open(tmp_path / "state.db")
    try:
        async with openai_api("Hello") as api:
            own = {"OPENAI_API_KEY": "sk-of-the-operator", "OPENAI_BASE_URL": f"{api.url}/"}
            variables |= {"EXECUTOR_ENV": json.dumps(own)} if for_all_agents else own
            settings = await asyncio.to_thread(lambda: settings_of(**variables))  # type: ignore[arg-type]  # as an environment gives it
            handler = in_process(
                settings, means, state, answerable=lambda: False, backend_url=None
            ).handler
            _, agent = handler.agents.resolve("agno")
            bot = {"agent_config": {"env": {"model_id": "gpt-x"}}}
            job = await asyncio.to_thread(JobMaker(tmp_path, "").job, bot=[bot])
            session = await agent.open(job)
            try:
                turn = await take_turn(session, "Hi")
            finally:
                await session.close()
    finally:
        await state.close()

    assert turn.end.result == "Hello "
    assert api.keys == ["Bearer sk-of-the-operator"]


@pytest.mark.parametrize("stopped", [False, True])
async def test_a_missing_cli_is_told_unless_the_executor_stops_anyway(
    stopped: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = await asyncio.to_thread(
        LocalSettings,
        WEGENT_EXECUTOR_HOME=tmp_path,
        WEGENT_BACKEND_URL="https://backend.example",
        WEGENT_AUTH_TOKEN="t",
        WEGENT_CLAUDE_PATH=tmp_path / "none",
        LOCAL_ISOLATION="none",
    )
    stop = StopSignals()
    if stopped:
        stop.first.set()
    means = await find_means(settings, stop)

    assert means.search.claude is None
    assert ("Claude Code was not found" in caplog.text) is not stopped
