"""The executor's image on a real engine, with the walls that a run in a container has."""

from __future__ import annotations

import json
import re
from typing import Any, Final

import pytest

from shared.version import __version__
from tests.fakes.docker_engine import DockerEngine

WALLS: Final = (
    *("--user", "1234:1234", "--read-only", "--cap-drop", "ALL"),
    *("--security-opt", "no-new-privileges", "--tmpfs", "/tmp", "--network", "none"),
)
"""Those of the pool; the user is one that nobody has heard of."""


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
    assert config["Entrypoint"] == ["tini", "--", "wegent-executor"]


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


def test_the_health_check_notices_that_nobody_answers(
    docker_engine: DockerEngine, executor_image: str
) -> None:
    script = "healthcheck 2>/dev/null || echo unhealthy"
    said = docker_engine.docker(
        *("run", "--rm", *WALLS, "--entrypoint", "bash", executor_image, "-c", script)
    )
    assert said == "unhealthy"
