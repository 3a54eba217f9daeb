"""Containers of a real engine: who gets which, for how long, and what is left of them."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import secrets
from collections.abc import Mapping
from typing import Any

import pytest
from pytest_socket import socket_allow_hosts

from shared.containers.engine import Engine
from shared.containers.errors import ContainerError, NameTaken
from shared.containers.pool import ContainerPool
from shared.containers.spec import session_name
from shared.errors import ProtocolError, Refusal
from shared.status import ErrorCode
from tests.fakes.containers import House, run_in, until


async def test_a_session_gets_a_container_that_answers_to_its_token(house: House) -> None:
    async with house.pool() as pool:
        endpoint = await house.get(pool, "7")
        assert (await run_in(endpoint, "pwd; echo $SESSION_ID $USER_ID")).output.endswith("7 user")
        await pool.remove_session("7")


async def test_what_a_container_is_given_is_in_nothing_that_the_engine_shows(house: House) -> None:
    async with house.pool(files={"network.json": b"a-login"}) as pool:
        endpoint = await house.get(pool, "7")
        shown = await house.docker("inspect", endpoint.container_id)
        seen = await run_in(endpoint, "cat /proc/*/environ /proc/*/cmdline /run/wegent/*")
        modes = await run_in(endpoint, "stat -c %a /run/wegent/*")
        await pool.remove_session("7")
    for secret in ("a-login", endpoint.token.get_secret_value()):
        assert secret not in shown
        assert seen.output.count(secret) == 1
    assert modes.output.split() == ["400", "400"]


async def test_the_port_is_published_on_loopback_only(house: House) -> None:
    async with house.pool() as pool:
        endpoint = await house.get(pool, "7")
        published = await house.docker("port", endpoint.container_id)
        assert published.split() == [
            "8000/tcp", "->", endpoint.executor_url.removeprefix("http://")
        ]  # fmt: skip
        assert endpoint.executor_url.startswith("http://127.0.0.1:")
        await pool.remove_session("7")


async def test_files_of_a_session_belong_to_its_directory_on_the_host(house: House) -> None:
    house.session_dir("7").mkdir(parents=True)
    (house.session_dir("7") / "before").write_text("host")
    async with house.pool() as pool:
        endpoint = await house.get(pool, "7")
        done = await run_in(endpoint, "cd /workspace; cat before; echo container > after")
        assert done.output == "host"
        await pool.remove_session("7")
    assert (house.session_dir("7") / "after").read_text() == "container\n"


async def test_an_ephemeral_container_goes_with_its_run_and_its_log_stays(house: House) -> None:
    async with house.pool() as pool:
        endpoint = await house.get(pool, "7")
        await pool.release(endpoint.container_id, run_id="run")
        await pool.release(endpoint.container_id, run_id="run")
        await until(lambda: _none_left(house))
    (log,) = house.settings.logs_dir.iterdir()
    assert log.read_text() == "the stand-in serves\nthe stand-in ends\n"
    assert log.stat().st_mode & 0o777 == 0o600
    assert not list(house.settings.state_dir.iterdir())
    assert house.session_dir("7").is_dir()


async def test_a_persistent_container_serves_the_next_run_of_its_session(house: House) -> None:
    async with house.pool() as pool:
        first = await house.get(pool, "7", "1", container_mode="persistent")
        await pool.release(first.container_id, run_id="1")
        second = await house.get(
            pool, "7", "2", container_mode="persistent", container_id=first.container_id
        )
        assert second == first
        await pool.release(second.container_id, run_id="2", keep=False)
        await until(lambda: _none_left(house))


async def test_two_calls_at_once_for_a_session_get_one_container(house: House) -> None:
    async with house.pool() as pool:
        first, second = await asyncio.gather(house.get(pool, "7", "1"), house.get(pool, "7", "2"))
        assert first == second
        await pool.release(first.container_id, run_id="1")
        assert (await run_in(second, "echo still here")).output == "still here"
        await pool.release(first.container_id, run_id="2")
        await until(lambda: _none_left(house))


async def test_a_new_run_waits_for_the_end_of_the_container_before_it(house: House) -> None:
    async with house.pool() as pool:
        first = await house.get(pool, "7", "1")
        await pool.release(first.container_id, run_id="1")
        second = await house.get(pool, "7", "2")
        assert second.container_id != first.container_id
        assert await house.containers() == [second.container_id]
        await pool.remove_session("7")


async def test_a_full_pool_refuses_as_busy_and_frees_the_idle_one_of_longest_ago(
    house: House,
) -> None:
    async with house.pool(max_containers=2) as pool:
        old = await house.get(pool, "old", "1", container_mode="persistent")
        new = await house.get(pool, "new", "2", container_mode="persistent")
        with pytest.raises(Refusal) as refused:
            await house.get(pool, "third", "3")
        assert refused.value.error_code is ErrorCode.BUSY
        await pool.release(old.container_id, run_id="1")
        await pool.release(new.container_id, run_id="2")
        third = await house.get(pool, "third", "3")
        assert sorted(await house.containers()) == sorted([new.container_id, third.container_id])
        await pool.release(third.container_id, run_id="3")


async def test_another_image_gets_another_container(house: House) -> None:
    other = f"{house.settings.image}-other"
    await house.docker("tag", house.settings.image, other)
    try:
        async with house.pool() as pool:
            first = await house.get(pool, "7", "1", container_mode="persistent")
            await pool.release(first.container_id, run_id="1")
            second = await house.get(pool, "7", "2", image=other)
            assert await house.containers() == [second.container_id]
            await pool.remove_session("7")
    finally:
        await house.docker("rmi", other)


async def test_a_container_never_serves_another_session(house: House) -> None:
    async with house.pool() as pool:
        endpoint = await house.get(pool, "7")
        with pytest.raises(ContainerError, match="not this session's"):
            await house.get(pool, "8", container_id=endpoint.container_id)
        await pool.remove_session("7")


async def test_a_mode_that_does_not_exist_is_refused(house: House) -> None:
    async with house.pool() as pool:
        with pytest.raises(ProtocolError):
            await house.get(pool, "7", container_mode="for ever")


async def test_somebody_elses_container_of_that_name_is_left_alone(house: House) -> None:
    name = session_name(house.settings.owner, "7")
    theirs = await house.docker("create", "--name", name, house.settings.image)
    try:
        async with house.pool() as pool:
            with pytest.raises(NameTaken, match="somebody else's"):
                await house.get(pool, "7")
        assert await house.docker("ps", "-aq", "--no-trunc", f"--filter=name={name}") == theirs
        assert not await house.containers()
    finally:
        await house.docker("rm", theirs)


async def test_a_container_of_our_own_that_was_left_over_makes_way(house: House) -> None:
    async with house.pool() as pool:
        name = session_name(house.settings.owner, "7")
        left = await house.docker(
            "create", "--name", name, f"--label=owner={house.settings.owner}",
            "--label=created_by=wegent-executor", house.settings.image,
        )  # fmt: skip
        endpoint = await house.get(pool, "7")
        assert left != endpoint.container_id
        assert await house.containers() == [endpoint.container_id]
        await pool.remove_session("7")


async def test_two_owners_may_have_sessions_of_one_id(house: House) -> None:
    other = f"other-{secrets.token_hex(4)}"
    async with house.pool() as pool, house.pool(owner=other) as neighbour:
        ours = await house.get(pool, "7")
        theirs = await house.get(neighbour, "7")
        assert ours.container_id != theirs.container_id
        await neighbour.remove_session("7")
        assert await house.containers() == [ours.container_id]
        await pool.remove_session("7")


async def test_a_paused_container_does_nothing_until_it_goes_on(house: House) -> None:
    async with house.pool() as pool:
        endpoint = await house.get(pool, "7")
        await pool.pause(endpoint.container_id)
        await pool.pause(endpoint.container_id)
        (listed,) = (await pool.stats())["containers"]
        assert listed["status"] == "paused"
        assert await pool.death(endpoint.container_id) is None
        await pool.unpause(endpoint.container_id)
        await pool.unpause(endpoint.container_id)
        assert (await run_in(endpoint, "echo on")).output == "on"
        await pool.remove_session("7")


async def test_a_paused_container_can_be_removed(house: House) -> None:
    async with house.pool() as pool:
        endpoint = await house.get(pool, "7")
        await pool.pause(endpoint.container_id)
        await pool.remove_session("7")
        assert not await house.containers()


async def test_statistics_count_what_there_is(house: House) -> None:
    async with house.pool() as pool:
        one = await house.get(pool, "7", "1", container_mode="persistent")
        await house.get(pool, "8", "2")
        stats = await pool.stats()
        assert (
            stats["total_active"],
            stats["persistent_containers"],
            stats["ephemeral_containers"],
            stats["warm_containers"],
        ) == (2, 1, 1, 0)
        assert stats["containers"][0] == {
            "container_id": one.container_id,
            "name": session_name(house.settings.owner, "7"),
            "status": "running",
            "mode": "persistent",
            "session_id": "7",
        }
        await pool.remove_session("7")
        await pool.remove_session("8")


async def test_on_a_private_network_it_is_reached_by_its_own_address(house: House) -> None:
    network = f"wegent-test-{secrets.token_hex(4)}"
    await house.docker("network", "create", network)
    try:
        (shown,) = json.loads(await house.docker("network", "inspect", network))
        gateway = ipaddress.ip_address(shown["IPAM"]["Config"][0]["Gateway"])
        socket_allow_hosts(["127.0.0.1", str(gateway + 1)], allow_unix_socket=True)
        async with house.pool(network=network) as pool:
            endpoint = await house.get(pool, "7")
            assert endpoint.executor_url == f"http://{gateway + 1}:8000"
            assert await house.docker("port", endpoint.container_id) == ""
            assert (await run_in(endpoint, "echo reached")).output == "reached"
            await pool.remove_session("7")
    finally:
        await house.docker("network", "rm", network)


async def test_a_network_that_does_not_exist_is_an_error(house: House) -> None:
    async with house.pool(network="wegent-no-such-network") as pool:
        with pytest.raises(ContainerError, match="wegent-no-such-network"):
            await house.get(pool, "7")
        await until(lambda: _none_left(house))


async def test_a_cancelled_start_leaves_nothing_behind(house: House) -> None:
    async with house.pool() as pool:
        starting = asyncio.create_task(house.get(pool, "7"))
        await until(house.containers)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        await until(lambda: _none_left(house))
        endpoint = await house.get(pool, "7")
        assert await house.containers() == [endpoint.container_id]
        await pool.remove_session("7")


class LateEngine(Engine):
    """Answers a request to create a container later than it has done it."""

    def __init__(self, host: str) -> None:
        super().__init__({"DOCKER_HOST": host})
        self.calls: list[str] = []
        self.made, self.answer = asyncio.Event(), asyncio.Event()

    async def create(self, name: str, config: Mapping[str, Any]) -> str:
        self.calls.append("create")
        made = await super().create(name, config)
        self.made.set()
        await self.answer.wait()
        return made

    async def remove(self, container_id: str) -> None:
        await super().remove(container_id)
        self.calls.append("removed")


async def test_what_a_cancelled_start_still_makes_is_removed_before_the_next_start(
    house: House,
) -> None:
    late = LateEngine(house.engine.host)
    async with late as engine, ContainerPool(engine, house.settings) as pool:
        cancelled = asyncio.create_task(house.get(pool, "7", "1"))
        await late.made.wait()
        cancelled.cancel()
        await asyncio.gather(cancelled, return_exceptions=True)
        following = asyncio.create_task(house.get(pool, "7", "2"))
        await asyncio.wait({following}, timeout=0.5)  # time enough to be in the way
        late.answer.set()
        endpoint = await following
        assert late.calls == ["create", "removed", "create"]
        assert await house.containers() == [endpoint.container_id]
        await pool.remove_session("7")


async def test_closing_removes_what_is_idle_and_leaves_what_a_run_holds(house: House) -> None:
    async with house.pool() as pool:
        held = await house.get(pool, "7", "1")
        idle = await house.get(pool, "8", "2", container_mode="persistent")
        await pool.release(idle.container_id, run_id="2")
    assert await house.containers() == [held.container_id]
    assert (await run_in(held, "echo on")).output == "on"


async def _none_left(house: House) -> bool:
    return not await house.containers()
