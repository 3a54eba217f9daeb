"""Containers that are started before anybody needs them."""

from __future__ import annotations

from shared.containers.pool import ContainerPool
from tests.fakes.containers import House, run_in, until


async def warm(pool: ContainerPool, number: int) -> None:
    """Wait until so many are ready."""

    async def enough() -> bool:
        stats = await pool.stats()
        ready = [
            one
            for one in stats["containers"]
            if one["mode"] == "warm" and one["container_id"] and one["status"] == "running"
        ]
        return len(ready) == number

    await until(enough)


async def test_a_new_session_gets_a_warm_container_with_its_directory(house: House) -> None:
    async with house.pool(warm_containers=1) as pool:
        await warm(pool, 1)
        (ready,) = await house.containers()
        (directory,) = house.settings.warm_dir.iterdir()
        inode = directory.stat().st_ino
        endpoint = await house.get(pool, "7")
        assert endpoint.container_id == ready
        assert house.session_dir("7").stat().st_ino == inode
        await run_in(endpoint, "echo container > /workspace/file")
        assert (house.session_dir("7") / "file").read_text() == "container\n"
        (house.session_dir("7") / "other").write_text("host")
        assert (await run_in(endpoint, "cat /workspace/other")).output == "host"
        await pool.remove_session("7")


async def test_a_claimed_container_has_its_sessions_name(house: House) -> None:
    async with house.pool(warm_containers=1) as pool:
        await warm(pool, 1)
        endpoint = await house.get(pool, "7")
        name = await house.docker("inspect", "--format={{.Name}}", endpoint.container_id)
        assert name.endswith("-7")
        await pool.remove_session("7")


async def test_another_one_is_started_in_the_place_of_the_claimed_one(house: House) -> None:
    async with house.pool(warm_containers=1) as pool:
        await warm(pool, 1)
        first = await house.get(pool, "7")
        await warm(pool, 1)
        second = await house.get(pool, "8")
        assert first.container_id != second.container_id
        assert first.token != second.token
        await pool.remove_session("7")
        await pool.remove_session("8")


async def test_a_used_container_serves_no_other_session(house: House) -> None:
    async with house.pool(warm_containers=1) as pool:
        await warm(pool, 1)
        first = await house.get(pool, "7", "1")
        await pool.release(first.container_id, run_id="1")
        second = await house.get(pool, "8", "2")
        assert second.container_id != first.container_id
        await pool.remove_session("8")


async def test_a_session_that_has_a_directory_starts_cold(house: House) -> None:
    house.session_dir("7").mkdir(parents=True)
    (house.session_dir("7") / "file").write_text("earlier")
    async with house.pool(warm_containers=1) as pool:
        await warm(pool, 1)
        (ready,) = await house.containers()
        endpoint = await house.get(pool, "7")
        assert endpoint.container_id != ready
        assert (await run_in(endpoint, "cat /workspace/file")).output == "earlier"
        await pool.remove_session("7")


async def test_a_warm_container_that_died_is_not_given_away(house: House) -> None:
    async with house.pool(warm_containers=1) as pool:
        await warm(pool, 1)
        (ready,) = await house.containers()
        await house.docker("kill", ready)
        endpoint = await house.get(pool, "7")
        assert endpoint.container_id != ready
        assert (await run_in(endpoint, "echo works")).output == "works"
        await pool.remove_session("7")


async def test_a_warm_container_that_died_is_replaced(house: House) -> None:
    async with house.pool(warm_containers=1) as pool:
        await warm(pool, 1)
        (dead,) = await house.containers()
        await house.docker("kill", dead)

        async def replaced() -> bool:
            return dead not in await house.containers()

        await until(replaced)
        await warm(pool, 1)
        assert len(list(house.settings.warm_dir.iterdir())) == 1


async def test_a_warm_container_makes_room_for_a_session_with_a_directory(house: House) -> None:
    house.session_dir("7").mkdir(parents=True)
    async with house.pool(warm_containers=1, max_containers=1) as pool:
        await warm(pool, 1)
        endpoint = await house.get(pool, "7")
        assert await house.containers() == [endpoint.container_id]
        assert not list(house.settings.warm_dir.iterdir())
        await pool.remove_session("7")


async def test_nothing_of_the_warm_ones_is_left_when_the_pool_is_closed(house: House) -> None:
    async with house.pool(warm_containers=2) as pool:
        await warm(pool, 2)
    assert not await house.containers()
    assert not list(house.settings.warm_dir.iterdir())


async def test_a_pool_that_is_closed_while_one_starts_leaves_nothing(house: House) -> None:
    async with house.pool(warm_containers=1):
        await until(house.containers)
    assert not await house.containers()
    assert not list(house.settings.warm_dir.iterdir())
    await _no_volume_left(house)


async def test_a_warm_container_knows_no_session(house: House) -> None:
    async with house.pool(warm_containers=1) as pool:
        await warm(pool, 1)
        endpoint = await house.get(pool, "7")
        assert (await run_in(endpoint, "echo -$SESSION_ID-$USER_ID-")).output == "---"
        await pool.remove_session("7")


async def _no_volume_left(house: House) -> None:
    left = await house.docker(
        "volume", "ls", "--quiet", f"--filter=label=owner={house.settings.owner}"
    )
    assert left == ""
