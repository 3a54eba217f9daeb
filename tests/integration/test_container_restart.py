"""After a restart, of the executor or of the engine, containers are found again or gone."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from shared.containers.errors import EngineUnavailable
from shared.containers.pool import ContainerPool
from tests.fakes.containers import House, run_in, until
from tests.fakes.docker_engine import DockerEngine, OwnEngine


async def test_a_container_with_an_unfinished_run_goes_on(house: House) -> None:
    async with house.pool() as pool:
        before = await house.get(pool, "7", "71")
    async with house.client() as engine, ContainerPool(engine, house.settings) as pool:
        found = await pool.reconcile(["71", "99"])
        assert found.adopted == {"71": before}
        assert not found.dead
        assert found.removed == 0
        assert await house.get(pool, "7", "71") == before
        assert (await run_in(before, "echo goes on")).output == "goes on"
        await pool.release(before.container_id, run_id="71")
        await until(lambda: _none_left(house))


async def test_a_claimed_warm_container_with_an_unfinished_run_goes_on(house: House) -> None:
    async with house.pool(warm_containers=1) as pool:
        await until(lambda: _warm(pool))
        before = await house.get(pool, "7", "71")
        await run_in(before, "echo kept > /workspace/file")
    async with house.client() as engine, ContainerPool(engine, house.settings) as pool:
        found = await pool.reconcile(["71"])
        assert found.adopted == {"71": before}
        assert (house.session_dir("7") / "file").read_text() == "kept\n"
        await pool.remove_session("7")


async def test_containers_without_an_unfinished_run_are_removed_and_their_logs_kept(
    house: House,
) -> None:
    async with house.pool() as pool:
        await house.get(pool, "7", "71")
        await house.get(pool, "8", "81", container_mode="persistent")
    async with house.client() as engine, ContainerPool(engine, house.settings) as pool:
        found = await pool.reconcile([])
        assert not found.adopted
        assert found.removed == 2
        assert not await house.containers()
        assert len(list(house.settings.logs_dir.iterdir())) == 2
        assert not list(house.settings.state_dir.iterdir())


async def test_what_a_killed_pool_left_is_removed_with_directories_and_volumes(
    house: House, tmp_path: Path, repository_root: Path
) -> None:
    await _kill_an_owner_with_a_warm_container(house, tmp_path, repository_root)
    assert len(await house.containers()) == 1
    assert list(house.settings.warm_dir.iterdir())
    volume = await house.docker(
        *("volume", "create", f"--label=owner={house.settings.owner}"),
        *("--label=created_by=wegent-executor", "--label=com.docker.volume.anonymous="),
    )
    async with house.client() as engine, ContainerPool(engine, house.settings) as pool:
        found = await pool.reconcile([])
        assert found.removed == 1
    assert not await house.containers()
    assert not list(house.settings.warm_dir.iterdir())
    left = await house.docker("volume", "ls", "--quiet", f"--filter=name={volume}")
    assert left == ""


async def test_a_container_that_has_died_meanwhile_tells_its_run_why(house: House) -> None:
    async with house.pool() as pool:
        endpoint = await house.get(pool, "7", "71")
    await house.docker("kill", endpoint.container_id)
    async with house.client() as engine, ContainerPool(engine, house.settings) as pool:
        found = await pool.reconcile(["71"])
        assert not found.adopted
        assert found.dead["71"].exit_code == 137
        assert found.dead["71"].log == ("the stand-in serves",)
        assert not await house.containers()


async def test_a_container_that_is_gone_meanwhile_tells_its_run_so(house: House) -> None:
    async with house.pool() as pool:
        endpoint = await house.get(pool, "7", "71")
    await house.docker("rm", "--force", "--volumes", endpoint.container_id)
    async with house.client() as engine, ContainerPool(engine, house.settings) as pool:
        found = await pool.reconcile(["71"])
        assert found.dead["71"].removed
        assert not list(house.settings.state_dir.iterdir())


async def test_a_paused_container_goes_on_with_its_run(house: House) -> None:
    async with house.pool() as pool:
        endpoint = await house.get(pool, "7", "71")
        await pool.pause(endpoint.container_id)
    async with house.client() as engine, ContainerPool(engine, house.settings) as pool:
        await pool.reconcile(["71"])
        assert (await run_in(endpoint, "echo on")).output == "on"
        await pool.remove_session("7")


async def test_containers_of_other_owners_are_left_alone(house: House) -> None:
    other = replace(house.settings, owner=f"{house.settings.owner}-other")
    async with house.pool() as pool:
        endpoint = await house.get(pool, "7", "71")
        async with house.client() as engine, ContainerPool(engine, other) as neighbour:
            assert (await neighbour.reconcile([])).removed == 0
        assert await house.containers() == [endpoint.container_id]
        await pool.remove_session("7")


@pytest.fixture
async def engine_of_ours(docker_engine: DockerEngine) -> AsyncIterator[OwnEngine]:
    """One that may be stopped; it runs again afterwards."""
    if not isinstance(docker_engine, OwnEngine):
        pytest.skip("somebody else's engine is not to be restarted")
    yield docker_engine
    if docker_engine.process is None:
        docker_engine.spawn()
        await asyncio.to_thread(docker_engine.wait_ready)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
async def test_a_restart_of_the_engine_is_told_from_a_death(
    how: signal.Signals, engine_of_ours: OwnEngine, house: House
) -> None:
    async with house.pool() as pool:
        endpoint = await house.get(pool, "7", "1")
        await engine_of_ours.restart(how)
        await pool.wait_engine(60)
        await until(lambda: pool.death(endpoint.container_id))
        death = await pool.death(endpoint.container_id)
        assert death is not None
        assert death.engine_lost
        await pool.release(endpoint.container_id, run_id="1")
        again = await house.get(pool, "7", "1")
        assert (await run_in(again, "echo again")).output == "again"
        assert await house.containers() == [again.container_id]
        await pool.remove_session("7")


async def test_while_the_engine_is_away_that_is_said_and_later_made_up_for(
    engine_of_ours: OwnEngine, house: House
) -> None:
    async with house.pool(warm_containers=1) as pool:
        held = await house.get(pool, "7", "1")
        await until(lambda: _warm(pool))
        await asyncio.to_thread(engine_of_ours.stop)
        death = await pool.death(held.container_id)
        assert death is not None
        assert death.engine_lost
        with pytest.raises(EngineUnavailable):
            await house.get(pool, "8", "2")
        await pool.release(held.container_id, run_id="1")  # nobody can remove it now
        engine_of_ours.spawn()
        await asyncio.to_thread(engine_of_ours.wait_ready)

        async def warm_again_and_nothing_else() -> bool:
            return await _warm(pool) and len(await house.containers()) == 1

        await until(warm_again_and_nothing_else)


async def _warm(pool: ContainerPool) -> bool:
    """Whether one is ready."""
    return any(
        one["mode"] == "warm" and one["status"] == "running"
        for one in (await pool.stats())["containers"]
    )


async def _none_left(house: House) -> bool:
    return not await house.containers()


OWNER = """
import asyncio, sys
from dataclasses import replace
from pathlib import Path
from tests.fakes.containers import House
from tests.fakes.docker_engine import DockerEngine

async def main(host, image, folder, owner):
    house = House(DockerEngine(host), image, Path(folder))
    house.settings = replace(house.settings, owner=owner)
    async with house.pool(warm_containers=1) as pool:
        while not any(one["container_id"] for one in (await pool.stats())["containers"]):
            await asyncio.sleep(0.05)
        print("ready", flush=True)
        await asyncio.Event().wait()

asyncio.run(main(*sys.argv[1:]))
"""


async def _kill_an_owner_with_a_warm_container(house: House, folder: Path, root: Path) -> None:
    owner = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", OWNER, house.engine.host, house.settings.image),
        *(str(folder), house.settings.owner),
        cwd=root,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert owner.stdout is not None
        async with asyncio.timeout(60):
            assert await owner.stdout.readline() == b"ready\n"
    finally:
        owner.kill()
        await owner.wait()
