"""Runs of agno through the handler that carries out all runs in this process."""

from __future__ import annotations

import asyncio
import os
import shlex
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from executor.agents.agno.agent import AgnoAgent
from executor.agents.agno.model_api import OwnApi
from executor.tasks.in_process import InProcessRunHandler
from executor.tasks.sandbox_probe import probe_sandbox
from shared.protocol.events import AgentEvent, EventType
from tests.fakes.agent import in_process
from tests.fakes.agent_jobs import make_request, take_turn
from tests.fakes.agno import Agno, Playing, ask_again_at_once, fake_server, playing_in, says
from tests.fakes.model import error_step, scenario, step, text_step, tool_step
from tests.fakes.openai_api import openai_api


@pytest.fixture
async def playing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Playing:
    await ask_again_at_once(monkeypatch)
    return playing_in(tmp_path)


@asynccontextmanager
async def handling(agno: Agno) -> AsyncIterator[InProcessRunHandler]:
    """A handler whose only agent is agno's, as a new process would have it."""
    home = agno.root / "executor"
    home.mkdir(exist_ok=True)
    agent = AgnoAgent(home / "agno", agno.own)
    environ = {"PATH": os.environ["PATH"]}
    async with in_process(agent, home, name="agno", environ=environ) as handler:
        yield handler


async def run(
    handler: InProcessRunHandler, agno: Agno, prompt: str, subtask: int, **fields: Any
) -> list[AgentEvent]:
    fields = {"agent_type": "agno", "bot": [agno.bot("solo")], **fields}
    request = make_request(prompt, subtask_id=subtask, **fields)
    return [event async for event in handler.start(request).events()]


async def test_a_session_goes_on_from_run_to_run_and_over_a_restart(playing: Playing) -> None:
    first = scenario(text_step("I shall remember 17."), name="first", prompt="Remember 17")
    second = scenario(
        text_step("It was 17."), name="second", prompt="Which", history="I shall remember 17."
    )
    third = scenario(text_step("Still 17."), name="third", prompt="Sure", history="It was 17.")
    async with playing(first, second, third) as agno:
        async with handling(agno) as handler:
            told = [await run(handler, agno, "Remember 17", 1)]
            told.append(await run(handler, agno, "Which number?", 2))
        async with handling(agno) as handler:
            told.append(await run(handler, agno, "Sure?", 3))

    results = [events[-1].data.get("result") for events in told]
    assert results == ["I shall remember 17.", "It was 17.", "Still 17."]
    assert [events[0].data["resumed"] for events in told] == [False, True, True]
    assert not [event for events in told for event in events if event.type == EventType.WARNING]


async def test_a_run_waits_for_the_end_of_a_rate_limit(playing: Playing) -> None:
    limited = scenario(error_step(429, retry_after_s=0.1), name="limited")
    after = scenario(text_step("Here I am"), name="after", prompt="cut off by a rate limit")
    async with playing(after, limited) as agno, handling(agno) as handler:
        events = await run(handler, agno, "Hi", 1)

    assert events[-1].type == EventType.COMPLETED
    assert events[-1].data["result"] == "Here I am"
    [warning] = [event for event in events if event.type == EventType.WARNING]
    assert "the run waits until" in warning.data["message"]


async def test_a_cancelled_run_ends_at_once_and_leaves_no_request(playing: Playing) -> None:
    endless = scenario(step({"text": "I think"}, {"gate": "never"}), name="endless")
    async with playing(endless) as agno, handling(agno) as handler:
        running = handler.start(make_request("Hi", agent_type="agno", bot=[agno.bot("solo")]))
        events = []
        async for event in running.events():
            events.append(event)
            if event.type == EventType.LLM_STREAM:
                await running.cancel("enough")
        await agno.model.wait_for_request(lambda request: request.outcome == "client left")

    assert events[-1].type == EventType.CANCELLED
    assert [e.data["code"] for e in events if e.type == EventType.LLM_ERROR] == ["cancelled"]


async def test_a_silent_run_is_stalled_and_tried_once_more(playing: Playing) -> None:
    hanging = scenario(step({"hang": True}), name="hanging")
    after = scenario(text_step("Here I am"), name="after", prompt="no sign of life")
    async with playing(after, hanging) as agno, handling(agno) as handler:
        events = await run(handler, agno, "Hi", 1, stall_timeout_seconds=2)

    assert events[-1].type == EventType.COMPLETED
    assert events[-1].data["result"] == "Here I am"


@pytest.mark.parametrize(
    ("own", "key", "used"),
    [
        ("https://elsewhere.example/v1", {"OPENAI_API_KEY": "sk-theirs"}, "sk-theirs"),
        ("https://elsewhere.example/v1", {"api_key": "sk-theirs"}, "sk-theirs"),
        (None, {}, "sk-own"),
    ],
)
async def test_a_first_bot_that_asks_openai_brings_its_key_or_names_the_executors_own_address(
    playing: Playing, own: str | None, key: dict[str, str], used: str
) -> None:
    async with playing() as agno, openai_api("Hello") as api:
        agno.own = {"openai": OwnApi("sk-own", base_url=own or api.url)}
        env = {"model_id": "gpt-x", "base_url": api.url, **key}
        async with handling(agno) as handler:
            bot = agno.bot("solo", agent_config={"env": env})
            events = await run(handler, agno, "Hi", 1, bot=[bot])

    assert events[-1].data.get("result") == "Hello "
    assert api.keys == [f"Bearer {used}"]


async def test_an_address_without_a_key_gets_none_of_the_executors(playing: Playing) -> None:
    async with playing() as agno, openai_api("Hello") as api:
        agno.own = {"openai": OwnApi("sk-own"), "anthropic": OwnApi("sk-own")}
        async with handling(agno) as handler:
            for env in ({"model_id": "gpt-x"}, {"model_id": "claude-x"}, {"OPENAI_BASE_URL": "x"}):
                bot = agno.bot("solo", agent_config={"env": {"base_url": api.url, **env}})
                events = await run(handler, agno, "Hi", 1, bot=[bot])
                assert events[-1].data["error_code"] == "credentials_missing"

    assert not api.keys


async def test_an_unknown_mode_fails_the_run_with_the_known_ones(playing: Playing) -> None:
    async with playing(says("solo", "?")) as agno, handling(agno) as handler:
        bots = [agno.bot("lead"), agno.bot("ann")]
        events = await run(handler, agno, "Hi", 1, bot=bots, mode="pipeline")

    assert events[-1].type == EventType.FAILED
    assert events[-1].data["error_code"] == "invalid_request"


@pytest.mark.skipif(sys.platform != "linux", reason="macOS refuses such servers")
@pytest.mark.parametrize("spelt", [{}, {"type": "STDIO"}, {"type": "stdio", "url": "x"}])
async def test_servers_of_a_sandboxed_run_stay_inside_its_walls(
    playing: Playing, tmp_path: Path, spelt: dict[str, str]
) -> None:
    assert await asyncio.to_thread(probe_sandbox, os.environ) is None
    secret = tmp_path / "home" / "state.db"
    secret.parent.mkdir()
    secret.write_text("TOP SECRET")
    command = (
        f"cat {shlex.quote(str(secret))}; echo x > {shlex.quote(str(tmp_path))}/outside; "
        "echo kept > inside; cat inside"
    )
    call = tool_step("mcp__fake__run", {"command": command})
    async with playing(scenario(call, text_step("Well."))) as agno:
        agno.hosts = ()
        servers = fake_server(**spelt)
        async with agno.opened(agno.bot("solo", mcp_servers=servers)) as session:
            turn = await take_turn(session, "Hi")

    assert turn.end.error is None, turn.events
    [(result, _)] = turn.results
    assert "TOP SECRET" not in result
    assert "kept" in result
    assert not (tmp_path / "outside").exists()
    [warning] = turn.data(EventType.WARNING)
    assert "no network: fake" in warning["message"]
