"""Runs in containers: the real engine, the real image, the real CLI, a scripted model."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from executor.tasks.run_handler import Run
from shared.protocol.events import AgentEvent, EventType
from tests.fakes.agent_jobs import make_request
from tests.fakes.container_runs import Site
from tests.fakes.containers import until
from tests.fakes.docker_engine import DockerEngine
from tests.fakes.model import scenario, text_step, tool_step

LIMIT_S = 120.0


@pytest.fixture
async def site(
    docker_engine: DockerEngine, executor_image: str, tmp_path: Path
) -> AsyncIterator[Site]:
    await asyncio.to_thread((tmp_path / "home").mkdir)
    site = Site(docker_engine, executor_image, tmp_path)
    yield site
    await site.house.remove_all()


async def carry_out(run: Run) -> list[AgentEvent]:
    async with asyncio.timeout(LIMIT_S):
        return [event async for event in run.events()]


async def test_a_run_in_a_container_works_in_the_sessions_folder_and_tells_its_path_here(
    site: Site,
) -> None:
    write = tool_step("Write", {"file_path": "/workspace/made.txt", "content": "hello"})
    async with (
        site.model(scenario(write, text_step("written"), prompt="Write")),
        site.process() as process,
    ):
        events = await carry_out(process.handler.start(make_request("Write it")))
    verdict = events[-1]
    assert verdict.type == EventType.COMPLETED, verdict.data
    assert verdict.data["result"] == "written"
    folder = site.house.session_dir("1")
    assert verdict.data["workspace"]["path"] == str(folder)
    assert [file["path"] for file in verdict.data["workspace"]["files"]] == ["made.txt"]
    assert await asyncio.to_thread((folder / "made.txt").read_text) == "hello"
    assert [event.origin for event in events] == list(range(1, len(events) + 1))
    await until(site.nothing_is_left)
