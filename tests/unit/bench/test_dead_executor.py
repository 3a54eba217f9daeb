"""The watch tells when each dead executor was first shown as offline, and every false alarm."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator

import aiohttp
from aiohttp import web
from aiohttp.test_utils import TestServer

from bench.dead_executor import Nodes


def answers() -> Iterator[dict[str, str]]:
    yield {"killed": "online", "frozen": "online", "well": "online"}
    yield {"killed": "offline", "frozen": "online", "well": "offline"}
    yield from itertools.repeat({"killed": "offline", "frozen": "offline", "well": "online"})


async def test_every_death_and_every_false_alarm_is_noticed() -> None:
    told = answers()

    async def nodes(_: web.Request) -> web.Response:
        listed = [{"name": name, "status": status} for name, status in next(told).items()]
        return web.json_response({"nodes": listed})

    app = web.Application()
    app.router.add_get("/api/v1/nodes", nodes)
    async with TestServer(app) as server, aiohttp.ClientSession(server.make_url("/")) as http:
        watch = Nodes(http)
        died_s = time.monotonic()
        noticed = await watch.watch({"killed": died_s, "frozen": died_s - 100}, until_s=died_s)
    assert noticed["killed"] > 0
    assert noticed["frozen"] > noticed["killed"] + 100
    assert (watch.looks, watch.false_alarms) == (3, ["offline"])
