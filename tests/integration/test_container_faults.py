"""What goes wrong around containers: it is told, in time, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import socket
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from shared.containers.engine import Engine, Patience
from shared.containers.errors import (
    ContainerDied,
    ContainerError,
    EngineUnavailable,
    ImageUnavailable,
)
from shared.containers.pool import ContainerPool
from tests.fakes.containers import House, run_in, signal_stand_in, stand_in_image, until
from tests.fakes.docker_engine import DockerEngine

IMPATIENT = Patience(quick_s=0.2, slow_s=0.2, silence_s=0.2)


async def test_an_engine_that_is_absent_is_named(house: House, tmp_path: Path) -> None:
    absent = Engine({"DOCKER_HOST": f"unix://{tmp_path}/none.sock"})
    async with absent as engine, ContainerPool(engine, house.settings) as pool:
        with pytest.raises(EngineUnavailable, match="DOCKER_HOST"):
            await engine.ping()
        with pytest.raises(EngineUnavailable):
            await pool.reconcile(())
        with pytest.raises(EngineUnavailable):
            await house.get(pool, "7")
        death = await pool.death("0123")
        assert death is not None
        assert death.engine_lost
        with pytest.raises(EngineUnavailable):
            await pool.wait_engine(0.1)


async def test_an_engine_that_says_nothing_is_an_error_and_no_wait(
    house: House, tmp_path: Path
) -> None:
    held: list[asyncio.StreamWriter] = []
    server = await asyncio.start_unix_server(
        lambda _reader, writer: held.append(writer), tmp_path / "mute.sock"
    )
    environ = {"DOCKER_HOST": f"unix://{tmp_path}/mute.sock"}
    mute = Engine(environ, patience=IMPATIENT)
    async with asyncio.timeout(30), server, mute as engine:
        async with ContainerPool(engine, house.settings) as pool:
            for call in (
                engine.ping(),
                engine.has_image("image"),
                engine.create("name", {}),
                engine.start("0123"),
                engine.inspect("0123"),
                engine.logs("0123", 5),
                engine.remove("0123"),
                engine.containers({}),
                pool.reconcile(()),
                house.get(pool, "7"),
            ):
                with pytest.raises(EngineUnavailable, match="did not answer"):
                    await call
            with pytest.raises(EngineUnavailable):
                async with engine.events({}):
                    pass
        for writer in held:
            writer.close()


async def test_an_unknown_image_is_an_error_with_a_next_step(house: House) -> None:
    async with house.pool() as pool:
        with pytest.raises(ImageUnavailable, match="EXECUTOR_IMAGE"):
            await house.get(pool, "7", image="127.0.0.1:1/none:latest")
        assert not await house.containers()


async def test_a_container_that_dies_while_it_starts_is_reported_with_its_log(
    house: House, docker_engine: DockerEngine, base_image: str
) -> None:
    image = await asyncio.to_thread(stand_in_image, docker_engine, base_image, "dies")
    async with house.pool() as pool:
        async with asyncio.timeout(30):  # half of what it would have to become ready
            with pytest.raises(ContainerDied) as died:
                await house.get(pool, "7", image=image)
        assert died.value.death.exit_code == 3
        assert died.value.death.log == ("the stand-in cannot go on",)
        assert "the stand-in cannot go on" in died.value.message
        await until(lambda: _none_left(house))
    (log,) = house.settings.logs_dir.iterdir()
    assert log.read_text() == "the stand-in cannot go on\n"


async def test_a_container_that_never_answers_is_given_up_and_removed(
    house: House, docker_engine: DockerEngine, base_image: str
) -> None:
    image = await asyncio.to_thread(stand_in_image, docker_engine, base_image, "silent")
    async with house.pool(health_limit_s=0.5) as pool:
        with pytest.raises(ContainerError, match=r"did not answer within 0\.5 s"):
            await house.get(pool, "7", image=image)
        await until(lambda: _none_left(house))


async def test_containers_that_never_answer_hold_no_other_start_up(
    house: House, docker_engine: DockerEngine, base_image: str
) -> None:
    image = await asyncio.to_thread(stand_in_image, docker_engine, base_image, "silent")
    async with house.pool() as pool:
        silent = [
            asyncio.create_task(house.get(pool, f"silent-{n}", image=image)) for n in range(3)
        ]
        endpoint = await house.get(pool, "7")
        assert not any(task.done() for task in silent)
        await pool.release(endpoint.container_id, run_id="run")
        for task in silent:
            task.cancel()
        await asyncio.gather(*silent, return_exceptions=True)
        await until(lambda: _none_left(house))


async def test_ports_in_use_are_passed_over(house: House) -> None:
    async with house.pool() as pool:
        first = await house.get(pool, "7")
        port = int(first.executor_url.rpartition(":")[2])
        with ExitStack() as taken:
            for offset in range(1, 4):
                occupant = taken.enter_context(socket.socket())
                with suppress(OSError):  # somebody has it: just as well
                    occupant.bind(("127.0.0.1", port + offset))
                    occupant.listen()
            second = await house.get(pool, "8")
            assert int(second.executor_url.rpartition(":")[2]) not in range(port, port + 4)
            assert (await run_in(second, "echo reached")).output == "reached"
        await pool.remove_session("7")
        await pool.remove_session("8")


async def test_a_directory_that_is_a_link_is_refused(house: House, tmp_path: Path) -> None:
    house.workspaces.mkdir()
    (tmp_path / "elsewhere").mkdir()
    house.session_dir("7").symlink_to(tmp_path / "elsewhere")
    async with house.pool() as pool:
        with pytest.raises(ContainerError, match="link"):
            await house.get(pool, "7")
        assert not await house.containers()


async def test_a_container_that_cannot_be_written_down_is_not_used(house: House) -> None:
    async with house.pool() as pool:
        house.settings.state_dir.parent.mkdir(parents=True, exist_ok=True)
        house.settings.state_dir.write_text("no folder")
        with pytest.raises(ContainerError, match="written down"):
            await house.get(pool, "7", container_mode="persistent")
        await until(lambda: _none_left(house))


async def test_a_log_that_cannot_be_saved_keeps_no_container(house: House) -> None:
    house.settings.logs_dir.parent.mkdir(parents=True)
    house.settings.logs_dir.write_text("no folder")
    async with house.pool() as pool:
        endpoint = await house.get(pool, "7")
        await pool.release(endpoint.container_id, run_id="run")
        await until(lambda: _none_left(house))


async def test_a_log_that_cannot_be_saved_hides_no_reason(house: House) -> None:
    house.settings.logs_dir.parent.mkdir(parents=True)
    house.settings.logs_dir.write_text("no folder")
    async with house.pool() as pool:
        endpoint = await house.get(pool, "7")
        await house.docker("kill", endpoint.container_id)
        death = await pool.death(endpoint.container_id)
        assert death is not None
        assert (death.exit_code, death.log) == (137, ("the stand-in serves",))
    async with house.client() as engine, ContainerPool(engine, house.settings) as pool:
        assert (await pool.reconcile(["run"])).dead["run"].exit_code == 137


async def test_a_container_that_was_killed_from_outside_has_a_reason(house: House) -> None:
    async with house.pool() as pool:
        endpoint = await house.get(pool, "7")
        assert await pool.death(endpoint.container_id) is None
        await house.docker("kill", endpoint.container_id)
        death = await pool.death(endpoint.container_id)
        assert death is not None
        assert (death.exit_code, death.out_of_memory, death.engine_lost) == (137, False, False)
        assert death.log == ("the stand-in serves",)
        await pool.release(endpoint.container_id, run_id="run")
        await until(lambda: _none_left(house))


async def test_the_exit_code_of_the_executor_inside_is_told(house: House) -> None:
    async with house.pool() as pool:
        endpoint = await house.get(pool, "7")
        await signal_stand_in(endpoint, "ABRT")
        await until(lambda: pool.death(endpoint.container_id))
        death = await pool.death(endpoint.container_id)
        assert death is not None
        assert death.exit_code == 128 + 6
        await pool.release(endpoint.container_id, run_id="run")
        await until(lambda: _none_left(house))


async def test_a_container_that_somebody_removed_has_a_reason_and_leaves_no_volume(
    house: House,
) -> None:
    async with house.pool() as pool:
        endpoint = await house.get(pool, "7")
        await house.docker("rm", "--force", endpoint.container_id)
        death = await pool.death(endpoint.container_id)
        assert death is not None
        assert death.removed
        await pool.release(endpoint.container_id, run_id="run")
        owner = f"--filter=label=owner={house.settings.owner}"

        async def no_volume_left() -> bool:
            return not await house.docker("volume", "ls", "--quiet", owner)

        await until(no_volume_left)


async def test_after_a_death_the_session_gets_another_container(house: House) -> None:
    async with house.pool() as pool:
        first = await house.get(pool, "7", "1", container_mode="persistent")
        await house.docker("kill", first.container_id)
        await pool.release(first.container_id, run_id="1", keep=False)
        second = await house.get(pool, "7", "2", container_mode="persistent")
        assert second.container_id != first.container_id
        assert (await run_in(second, "echo works")).output == "works"
        await pool.remove_session("7")


async def test_an_idle_container_that_dies_is_removed_without_being_asked_for(
    house: House,
) -> None:
    async with house.pool() as pool:
        endpoint = await house.get(pool, "7", "1", container_mode="persistent")
        await pool.release(endpoint.container_id, run_id="1")
        await house.docker("kill", endpoint.container_id)
        await until(lambda: _none_left(house))
        assert (await pool.stats())["total_active"] == 0


async def test_twenty_starts_at_once_all_end_well_and_the_loop_goes_on(house: House) -> None:
    async with house.pool(max_containers=20) as pool:
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0.01)
                turns += 1

        counting = asyncio.create_task(count())
        endpoints = await asyncio.gather(*(house.get(pool, f"s{n}") for n in range(20)))
        counting.cancel()
        assert len({endpoint.container_id for endpoint in endpoints}) == 20
        assert len({endpoint.executor_url for endpoint in endpoints}) == 20
        assert len({endpoint.token.get_secret_value() for endpoint in endpoints}) == 20
        assert turns > 20  # one blocking call of a second for each would leave none
        for endpoint in endpoints:
            await pool.release(endpoint.container_id, run_id="run")
        await until(lambda: _none_left(house))


async def _none_left(house: House) -> bool:
    return not await house.containers()


async def test_a_limit_that_the_host_cannot_give_is_cut(house: House) -> None:
    limits = replace(house.settings.limits, cpus=1000.0)
    async with house.pool(limits=limits) as pool:
        endpoint = await house.get(pool, "7")
        assert (await run_in(endpoint, "echo on")).output == "on"
        await pool.remove_session("7")


async def test_a_container_that_was_stopped_by_hand_is_no_lost_engine(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.containers.pool.ENGINE_STOPS_WITHIN_S", 0.1)
    async with house.pool() as pool:
        endpoint = await house.get(pool, "7")
        await house.docker("stop", endpoint.container_id)
        death = await pool.death(endpoint.container_id)
        assert death is not None
        assert (death.exit_code, death.engine_lost) == (0, False)
        await pool.release(endpoint.container_id, run_id="run")
        await until(lambda: _none_left(house))
