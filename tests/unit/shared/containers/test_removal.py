"""Sweeping where others sweep, too."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from aiohttp import web

from shared.containers.engine import Engine
from shared.containers.members import Members
from shared.containers.records import Records
from shared.containers.removal import Remover
from tests.fakes.engine_answers import engine_that


def remover_of(engine: Engine, folder: Path) -> Remover:
    records = Records(folder / "state")
    places = {"logs_dir": folder / "logs", "warm_dir": folder / "warm"}
    return Remover(engine, "owner", Members(1), records, **places)


async def test_volumes_that_an_engine_cannot_look_for_now_are_looked_for_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.containers.removal.FIRST_PAUSE_S", 0.01)
    asked: asyncio.Queue[int] = asyncio.Queue()
    answers = iter([409, 200])

    async def engine_says(request: web.Request) -> web.Response:
        if request.path.endswith("/volumes/prune"):
            status = next(answers)
            asked.put_nowait(status)
            said = {"message": "a prune operation is already running"}
            return web.json_response(said, status=status)
        known = {"ApiVersion": "1.41"} if request.path.endswith("/version") else []
        return web.json_response(known)

    async with engine_that(engine_says, tmp_path) as engine:
        remover = remover_of(engine, tmp_path)
        assert await remover.sweep() == 0
        sweeping = asyncio.create_task(remover.run())
        async with asyncio.timeout(10):
            assert [await asked.get() for _ in range(2)] == [409, 200]
        sweeping.cancel()
        await asyncio.gather(sweeping, return_exceptions=True)


async def test_a_place_that_cannot_be_looked_into_holds_no_sweep_up(tmp_path: Path) -> None:
    async def engine_says(request: web.Request) -> web.Response:
        known = {"ApiVersion": "1.41"} if request.path.endswith("/version") else []
        return web.json_response(known)

    (tmp_path / "warm").write_text("a file")
    async with engine_that(engine_says, tmp_path) as engine:
        remover = remover_of(engine, tmp_path)
        assert await remover.sweep() == 0
