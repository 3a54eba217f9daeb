"""What ``doctor`` finds where tasks run in containers, on a real engine."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from executor.diagnosis.containers import look_at_containers, look_at_docker
from executor.diagnosis.finding import State
from shared.containers.engine import Engine
from tests.fakes.docker_engine import DockerEngine
from tests.fakes.http_proxy import HttpProxy, open_proxy


@pytest.fixture
def environ(docker_engine: DockerEngine) -> dict[str, str]:
    return {"DOCKER_HOST": docker_engine.host}


async def test_the_executors_image_is_tried_behind_the_walls_of_a_run_and_nothing_is_left(
    docker_engine: DockerEngine, executor_image: str, environ: dict[str, str]
) -> None:
    finding = await look_at_containers(executor_image, environ)
    assert finding.state is State.OK, finding
    assert "works: wegent-executor " in finding.what
    assert "wegent-doctor" not in await asyncio.to_thread(docker_engine.docker, "ps", "--all")


async def test_a_container_is_not_left_when_the_time_is_over_while_it_is_made(
    docker_engine: DockerEngine,
    base_image: str,
    environ: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    create, made = Engine.create, asyncio.Event()

    async def create_slowly(engine: Engine, name: str, config: Mapping[str, Any]) -> str:
        container = await create(engine, name, config)
        looker.cancel()
        made.set()
        await asyncio.sleep(0)
        return container

    monkeypatch.setattr(Engine, "create", create_slowly)
    looker = asyncio.create_task(look_at_containers(base_image, environ))
    with pytest.raises(asyncio.CancelledError):
        await looker
    assert made.is_set()
    assert "wegent-doctor" not in await asyncio.to_thread(docker_engine.docker, "ps", "--all")


async def test_proxies_are_tried_from_inside_a_container(
    docker_engine: DockerEngine, executor_image: str, environ: dict[str, str]
) -> None:
    async with (
        open_proxy(HttpProxy(host=docker_engine.gateway)) as everywhere,
        open_proxy() as on_loopback,
    ):
        environ |= {"HTTP_PROXY": everywhere.url(), "HTTPS_PROXY": on_loopback.url("ada:s3cr3t")}
        finding = await look_at_containers(executor_image, environ)
    assert finding.state is State.WARNING, finding
    unreached = f"host.docker.internal:{on_loopback.port} (HTTPS_PROXY)"
    assert finding.what == f"from a container this proxy cannot be reached: {unreached}"
    assert "have it listen where containers find this machine" in str(finding.remedy)


async def test_authorities_that_cannot_be_handed_on_are_a_failure(
    base_image: str, environ: dict[str, str]
) -> None:
    finding = await look_at_containers(base_image, {**environ, "SSL_CERT_FILE": "/none.pem"})
    assert finding.state is State.FAILED
    assert "SSL_CERT_FILE: /none.pem cannot be used" in finding.what


async def test_an_image_that_is_not_there_is_a_warning_with_the_command_that_gets_it(
    environ: dict[str, str],
) -> None:
    finding = await look_at_containers("nobody/has-this:1", environ)
    assert finding.state is State.WARNING
    assert finding.remedy == (
        "docker pull nobody/has-this:1, or in a checkout: make image IMAGE=nobody/has-this:1"
    )


async def test_an_image_without_the_executor_is_a_failure(
    base_image: str, environ: dict[str, str]
) -> None:
    finding = await look_at_containers(base_image, environ)
    assert finding.state is State.FAILED
    assert base_image in finding.what


async def test_an_engine_tells_its_version(environ: dict[str, str]) -> None:
    finding = await look_at_docker(environ)
    assert finding.state is State.OK
    assert finding.what[0].isdigit()
