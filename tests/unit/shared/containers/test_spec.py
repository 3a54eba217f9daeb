"""What a container is made with, as the engine is told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from shared.containers.spec import ContainerSpec, Limits, session_name, warm_name

SPEC = ContainerSpec(
    name="wegent-x",
    image="wegent-executor:latest",
    directory=Path("/srv/workspaces/7"),
    user=(1000, 1001),
    owner="home-1",
    mode="ephemeral",
    limits=Limits(memory=2**30, cpus=1.5, pids=99, tmp_size=5000),
    session_id="7",
    user_id="u-1",
    run_id="71",
)


def host_config(spec: ContainerSpec = SPEC) -> dict[str, Any]:
    found = spec.config(available_cpus=64)["HostConfig"]
    assert isinstance(found, dict)
    return found


def test_every_wall_is_up_without_being_asked_for() -> None:
    config = host_config()
    assert config["CapDrop"] == ["ALL"]
    assert config["SecurityOpt"] == ["no-new-privileges:true"]
    assert config["ReadonlyRootfs"] is True
    assert config["Privileged"] is False
    assert "CapAdd" not in config and "Devices" not in config and "PidMode" not in config


def test_the_processes_are_the_users_own() -> None:
    assert SPEC.config(available_cpus=64)["User"] == "1000:1001"


def test_memory_processes_and_cpus_are_limited_and_there_is_no_swap() -> None:
    config = host_config()
    assert config["Memory"] == config["MemorySwap"] == 2**30
    assert config["PidsLimit"] == 99
    assert config["NanoCpus"] == 1_500_000_000


def test_a_host_with_less_processors_than_the_limit_gives_all_it_has() -> None:
    assert SPEC.config(available_cpus=1)["HostConfig"]["NanoCpus"] == 1_000_000_000


def test_tmp_is_a_bounded_file_system_of_its_own() -> None:
    assert host_config()["Tmpfs"] == {"/tmp": "rw,nosuid,nodev,exec,mode=1777,size=5000"}


def test_the_sessions_directory_is_all_that_is_mounted_of_the_host() -> None:
    mounts = host_config()["Mounts"]
    bound = [mount for mount in mounts if mount["Type"] == "bind"]
    assert [(mount["Source"], mount["Target"]) for mount in bound] == [
        ("/srv/workspaces/7", "/workspace")
    ]
    assert [mount["Target"] for mount in mounts if mount not in bound] == ["/run/wegent"]
    assert "Binds" not in host_config()


def test_the_port_is_published_on_loopback_only() -> None:
    assert host_config()["PortBindings"] == {"8000/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]}


def test_no_port_is_published_on_a_private_network() -> None:
    config = host_config(replace(SPEC, network="sandboxes"))
    assert config["NetworkMode"] == "sandboxes"
    assert "PortBindings" not in config and "PublishAllPorts" not in config


def test_the_host_has_a_name_inside() -> None:
    assert host_config()["ExtraHosts"] == ["host.docker.internal:host-gateway"]


def test_labels_say_whose_it_is() -> None:
    assert SPEC.config(available_cpus=64)["Labels"] == {
        "owner": "home-1",
        "session_id": "7",
        "run_id": "71",
        "container_mode": "ephemeral",
        "created_by": "wegent-executor",
    }


def test_a_warm_container_is_told_of_no_session() -> None:
    warm = replace(SPEC, mode="warm", session_id=None, user_id=None, run_id=None)
    assert not {"SESSION_ID", "USER_ID"} & warm.environment.keys()
    assert warm.labels["container_mode"] == "warm"
    assert not {"session_id", "run_id"} & warm.labels.keys()


def test_the_executor_inside_is_told_its_mode_and_its_places() -> None:
    environment = SPEC.config(available_cpus=64)["Env"]
    assert environment == sorted(environment)
    assert {
        "EXECUTOR_MODE=docker",
        "PORT=8000",
        "WORKSPACE_PATH=/workspace",
        "WEGENT_EXECUTOR_HOME=/workspace/.wegent",
        "EXECUTOR_API_TOKEN_FILE=/run/wegent/token",
        "LOCAL_ISOLATION=none",
        "WEGENT_BUILTIN_HOOKS=false",
        "SESSION_ID=7",
        "USER_ID=u-1",
    } <= set(environment)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("12345678-aaaa", "12345678-bbbb"),
        ("a b", "a_b"),
        ("a/b", "a-b"),
        ("Straße", "Strasse"),
        ("x" * 101, "x" * 102),
        ("A", "a"),
    ],
)
def test_sessions_that_look_alike_have_names_of_their_own(one: str, other: str) -> None:
    assert session_name("home", one) != session_name("home", other)


def test_no_session_can_be_called_like_the_digest_of_another() -> None:
    digested = session_name("home", "a/b").rpartition("-")[2]
    assert session_name("home", digested) != session_name("home", "a/b")


def test_a_name_has_the_whole_id_where_it_can() -> None:
    session = "0f6b2a3c-1d2e-4f5a-8b9c-000000000001"
    assert session_name("home", session).endswith(f"-{session}")


def test_two_owners_with_one_session_id_do_not_collide() -> None:
    assert session_name("home-1", "7") != session_name("home-2", "7")


def test_a_warm_name_is_no_sessions_name() -> None:
    assert warm_name("home", "ab") != session_name("home", "warm-ab")
    assert warm_name("home", "ab") != session_name("home", "ab")
