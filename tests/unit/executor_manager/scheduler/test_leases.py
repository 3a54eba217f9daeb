"""The loop that watches leases."""

from __future__ import annotations

import asyncio
from pathlib import Path

from executor_manager.scheduler.leases import expire_forever
from executor_manager.store.store import Store
from executor_manager.streams.hub import Hub
from tests.fakes.store_bench import KEY, Bench


async def test_a_run_whose_node_fell_silent_is_found(tmp_path: Path) -> None:
    hub = Hub()
    url = f"sqlite+aiosqlite:///{tmp_path / 'manager.db'}"
    async with asyncio.timeout(30), Store.open(url, KEY, hub, lease_seconds=0) as store:
        bench = Bench(store, hub, tmp_path)
        run = await bench.running(on_node_loss="fail")
        watch = asyncio.create_task(expire_forever(store.leases, first_after_s=0, every_s=0.01))
        with hub.follow(run.run_id) as wake_up:
            while (await bench.run(run.run_id)).state != "failed":
                await wake_up.wait()
        watch.cancel()
        [node] = await store.nodes.all()
        assert node.status == "offline"
