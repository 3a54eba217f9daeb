"""Many runs that come, go, are cancelled and killed: no container is shared or left behind."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress

import aiohttp
import pytest

from shared.containers.pool import ContainerPool
from shared.errors import Refusal
from tests.fakes.containers import House, run_in
from tests.fakes.docker_place import EngineError

MOST = 4
USERS = 6
ROUNDS = 6


class Churn:
    """What the users of one pool have seen."""

    def __init__(self, house: House, pool: ContainerPool, seed: int) -> None:
        self.house = house
        self.pool = pool
        self.random = random.Random(seed)
        self.sessions: dict[str, str] = {}  # by container
        self.served = 0

    async def user(self, number: int) -> None:
        for turn in range(ROUNDS):
            session = f"s{self.random.randrange(USERS)}"
            await self.run(session, f"{number}-{turn}")

    async def run(self, session: str, run_id: str) -> None:
        mode = self.random.choice(["ephemeral", "persistent"])
        getting = asyncio.create_task(
            self.house.get(self.pool, session, run_id, container_mode=mode)
        )
        if self.random.random() < 0.25:
            await asyncio.wait({getting}, timeout=self.random.random())
            getting.cancel()
        try:
            endpoint = await getting
        except (asyncio.CancelledError, Refusal):
            return
        container = endpoint.container_id
        assert self.sessions.setdefault(container, session) == session
        assert (await self.pool.stats())["total_active"] <= MOST
        with suppress(aiohttp.ClientError, TimeoutError):  # somebody else may kill it
            script = f"touch /workspace/of-{session}; ls /workspace"
            done = await run_in(endpoint, script, within_s=10)
            assert done.output == f"of-{session}"
            self.served += 1
        if self.random.random() < 0.15:
            with suppress(EngineError):  # somebody else may have done so
                await self.house.docker("kill", container)
        if self.random.random() < 0.1:
            await self.pool.remove_session(session)
        await self.pool.release(container, run_id=run_id)


@pytest.mark.parametrize("seed", [1, 2])
async def test_nothing_is_shared_and_nothing_is_left(house: House, seed: int) -> None:
    async with house.pool(max_containers=MOST, warm_containers=1) as pool:
        churn = Churn(house, pool, seed)
        async with asyncio.TaskGroup() as users:
            for number in range(USERS):
                users.create_task(churn.user(number))
        assert churn.served
    assert not await house.containers()
    assert not list(house.settings.state_dir.iterdir())
    assert not list(house.settings.warm_dir.iterdir())
