"""The executor's image on a real engine, with the walls that a run in a container has."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

import pytest
from aiohttp import ClientError, ClientSession

from scripts.scripted_model import ScriptedModel
from shared.version import __version__
from tests.fakes.docker_engine import DockerEngine
from tests.fakes.model import reaching, scenario, text_step, tool_step

WALLS: Final = (
    *("--user", "1234:1234", "--read-only", "--cap-drop", "ALL"),
    *("--security-opt", "no-new-privileges", "--tmpfs", "/tmp"),
)
"""Those of the pool; the user is one that nobody has heard of."""

LEAVE_AN_ORPHAN: Final = """
    bash -c 'sleep 0.1 &'
    for attempt in {1..50}; do
        zombies=$(ps -A -o stat= | grep -c Z)
        [ "$attempt" -gt 5 ] && [ "$zombies" = 0 ] && break
        sleep 0.1
    done
    echo "$zombies"
"""
"""A command ends before what it has started; then it says how many zombies there are at last."""


def inspect(engine: DockerEngine, name: str) -> dict[str, Any]:
    [found] = json.loads(engine.docker("inspect", name))
    return dict(found)


@pytest.fixture
def config(docker_engine: DockerEngine, executor_image: str) -> dict[str, Any]:
    return dict(inspect(docker_engine, executor_image)["Config"])


def test_it_is_nobody_special_and_writes_to_a_volume(config: dict[str, Any]) -> None:
    assert config["User"] == "10001:10001"
    assert config["Volumes"] == {"/workspace": {}}
    assert config["WorkingDir"] == "/workspace"


def test_it_says_how_it_is_served_asked_and_stopped(config: dict[str, Any]) -> None:
    assert config["ExposedPorts"] == {"8000/tcp": {}}
    assert "EXECUTOR_MODE=docker" in config["Env"]
    assert "PORT=8000" in config["Env"]
    assert config["StopSignal"] == "SIGTERM"
    assert config["Healthcheck"]["Test"] == ["CMD", "healthcheck"]
    assert config["Entrypoint"] == ["wegent-executor"]


def test_its_labels_tell_what_it_is(config: dict[str, Any]) -> None:
    labels = {name.rpartition(".")[2]: value for name, value in config["Labels"].items()}
    assert labels["version"] == __version__
    assert re.fullmatch(r"unknown|[0-9a-f]{10}(\+changes)?", labels["revision"])
    assert labels["licenses"] == "Apache-2.0"
    assert labels["title"] == "wegent-executor"


def test_nothing_secret_is_in_what_it_was_built_by(
    docker_engine: DockerEngine, executor_image: str
) -> None:
    history = docker_engine.docker("history", "--no-trunc", executor_image)
    assert not re.search(r"TOKEN|PASSWORD|API_KEY|://", history)


@pytest.mark.parametrize("walls", [(), WALLS], ids=["without walls", "behind walls"])
def test_everything_in_it_starts(
    docker_engine: DockerEngine, executor_image: str, walls: tuple[str, ...]
) -> None:
    def run(program: str, *arguments: str) -> str:
        entry = ("--entrypoint", program)
        return docker_engine.docker("run", "--rm", *walls, *entry, executor_image, *arguments)

    assert docker_engine.docker("run", "--rm", *walls, executor_image, "--version").startswith(
        f"wegent-executor {__version__} "
    )
    assert re.match(r"\d+\.\d+\.\d+ \(Claude Code\)", run("claude", "--version"))
    assert run("bash", "-c", "git init --quiet new && git -C new rev-parse --git-dir") == ".git"
    # What the agent's own tools need.
    assert run("bash", "-c", "command -v ssh ps pgrep bash").count("\n") == 3
    assert run("test", "-s", "/etc/ssl/certs/ca-certificates.crt") == ""


def test_it_can_write_where_it_should_and_nowhere_else(
    docker_engine: DockerEngine, executor_image: str
) -> None:
    script = """
        for place in /workspace /tmp "$HOME"; do touch "$place/file" || echo "not $place"; done
        for place in / /opt/wegent-executor /usr/local/bin /etc /run/wegent; do
            touch "$place/file" 2>/dev/null && echo "$place"
        done
        grep -E '^(CapEff|NoNewPrivs)' /proc/self/status
    """
    said = docker_engine.docker(
        *("run", "--rm", *WALLS, "--entrypoint", "bash", executor_image, "-c", script)
    )
    assert said.split("\n") == ["CapEff:\t0000000000000000", "NoNewPrivs:\t1"]


@contextmanager
def running(engine: DockerEngine, image: str, *options: str) -> Iterator[str]:
    container = engine.docker("run", "--detach", *WALLS, *options, image)
    try:
        yield container
    finally:
        engine.docker("rm", "--force", "--volumes", container)


async def health(engine: DockerEngine, container: str, wanted: str) -> None:
    """Wait until the engine says that the container is *wanted*."""
    asked = ("inspect", "--format", "{{.State.Status}} {{.State.Health.Status}}", container)
    async with asyncio.timeout(60):
        while (said := await asyncio.to_thread(engine.docker, *asked)) != f"running {wanted}":
            assert said.startswith("running"), await asyncio.to_thread(
                engine.docker, "logs", container
            )
            await asyncio.sleep(0.2)  # the engine has events for it, but not for a status that is


async def test_it_becomes_healthy_and_ends_clean(
    docker_engine: DockerEngine, executor_image: str
) -> None:
    with running(docker_engine, executor_image, "--health-interval", "1s") as container:
        await health(docker_engine, container, "healthy")
        await asyncio.to_thread(docker_engine.docker, "stop", "--time", "30", container)
        assert inspect(docker_engine, container)["State"]["ExitCode"] == 0


async def test_a_task_runs_in_it_with_all_that_claude_code_needs(
    docker_engine: DockerEngine, executor_image: str
) -> None:
    # Besides git: a shell, processes to look at, certificates.
    command = "id -u && git init --quiet repository && ps -A | grep -c executor"
    task = [
        scenario(
            tool_step("Bash", {"command": command, "description": "look"}),
            text_step("all there"),
            prompt="Look",
        )
    ]
    served = ("--network", "bridge", "--publish", "127.0.0.1::8000")
    token = ("--env", "EXECUTOR_API_TOKEN=for-this-test")
    async with (
        ScriptedModel(task, host=docker_engine.gateway) as model,
        ClientSession(headers={"Authorization": "Bearer for-this-test"}) as client,
    ):
        with running(docker_engine, executor_image, *served, *token) as container:
            address = docker_engine.docker("port", container, "8000")
            await answers(client, f"http://{address}/health")
            body = {
                "task_id": 1,
                "subtask_id": 2,
                "prompt": "Look",
                "bot": [{"shell_type": "ClaudeCode", "agent_config": reaching(model.url)}],
            }
            async with client.post(f"http://{address}/api/tasks/execute", json=body) as accepted:
                assert accepted.status == 200, await accepted.text()
            async with asyncio.timeout(60):
                # The stream ends with the run.
                await (await client.get(f"http://{address}/v1/tasks/2/events")).read()
            async with client.get(f"http://{address}/v1/tasks/2") as told:
                run = await told.json()
    assert (run["state"], run["result"]) == ("completed", "all there")
    assert model.requests[-1].last_tool_result.split() == ["1234", "1"]


async def answers(client: ClientSession, url: str) -> None:
    """Wait until what is just starting answers."""
    async with asyncio.timeout(60):
        while True:
            with suppress(ClientError):
                async with client.get(url) as answer:
                    assert answer.status == 200
                    return
            await asyncio.sleep(0.05)  # the port is open before anybody listens


def test_the_health_check_notices_that_nobody_answers(
    docker_engine: DockerEngine, executor_image: str
) -> None:
    script = "healthcheck 2>/dev/null || echo unhealthy"
    said = docker_engine.docker(
        *("run", "--rm", *WALLS, "--entrypoint", "bash", executor_image, "-c", script)
    )
    assert said == "unhealthy"


async def test_orphans_do_not_stay_as_zombies(
    docker_engine: DockerEngine, executor_image: str
) -> None:
    with running(docker_engine, executor_image, "--health-interval", "1s") as container:
        await health(docker_engine, container, "healthy")
        said = docker_engine.docker("exec", container, "bash", "-c", LEAVE_AN_ORPHAN)
        assert said == "0"
