"""The watch tells when each dead executor was first shown as offline, and every false alarm."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator

from aiohttp import web
from aiohttp.test_utils import TestServer

from bench.dead_executor import DYING, Nodes
from scripts.manager_client import ManagerClient


def answers() -> Iterator[tuple[str, dict[str, str]]]:
    """The heartbeat that each executor has sent last, and who is not online."""
    yield "first", {}
    yield "second", {"killed": "offline", "well": "offline"}
    yield from itertools.repeat(("third", dict.fromkeys(DYING, "offline")))


async def test_every_death_and_every_false_alarm_is_noticed() -> None:
    told = answers()

    async def nodes(_: web.Request) -> web.Response:
        heartbeat, statuses = next(told)
        listed = [
            {"name": name, "status": statuses.get(name, "online"), "last_heartbeat": heartbeat}
            for name in (*DYING, "well")
        ]
        return web.json_response({"nodes": listed})

    app = web.Application()
    app.router.add_get("/api/v1/nodes", nodes)
    async with (
        TestServer(app) as server,
        ManagerClient(str(server.make_url("/")), "token") as client,
    ):
        watch = Nodes(client, (*DYING, "well"))
        noticed = await watch.watch(DYING, time.monotonic())
    assert 0 < noticed["killed"] < noticed["frozen"] == noticed["half-open"]
    assert watch.leases == {("well", "first"), ("well", "second"), ("well", "third")}
    assert watch.false_alarms == {("well", "second")}
