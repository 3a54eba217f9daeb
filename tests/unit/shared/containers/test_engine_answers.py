"""An engine that says what no engine says."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp import web

from shared.containers.engine import Engine
from shared.containers.errors import ContainerError
from tests.fakes.engine_answers import engine_that


async def _events(engine: Engine) -> None:
    async with engine.events({}) as events:
        async for _ in events:
            pass


@pytest.mark.parametrize("answer", ["{}", "[[]]", "null", "7", "not JSON", '[{"Names": []}]'])
@pytest.mark.parametrize(
    "ask",
    [
        lambda engine: engine.cpus(),
        lambda engine: engine.inspect("it"),
        lambda engine: engine.create("it", {"Image": "image"}),
        lambda engine: engine.containers({}),
        _events,
    ],
    ids=["cpus", "inspect", "create", "containers", "events"],
)
async def test_odd_answers_are_errors_of_the_engine(
    ask: Callable[[Engine], Awaitable[object]], answer: str, tmp_path: Path
) -> None:
    async def engine_says(request: web.Request) -> web.Response:
        known = '{"ApiVersion": "1.41", "Version": "20.10"}'
        text = known if request.path.endswith("/version") else answer
        return web.Response(text=text, content_type="application/json")

    async with engine_that(engine_says, tmp_path) as engine:
        try:
            found = await ask(engine)
        except ContainerError:
            return
    assert found == []  # nothing is there
