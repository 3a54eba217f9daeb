"""What a container is made with: its walls, its one mount, its labels. Pure; knows no engine."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any, Final, Literal

ContainerMode = Literal["ephemeral", "persistent"]

PORT: Final = 8000
"""Where the executor inside listens."""

WORKSPACE: Final = PurePosixPath("/workspace")

GIVEN: Final = PurePosixPath("/run/wegent")
"""A volume of its own: what only the executor inside is to know, put there before it starts."""

TOKEN_FILE: Final = GIVEN / "token"
NETWORK_FILE: Final = GIVEN / "network.json"
"""Proxies and authorities, where there is something to be said of them."""

TMP: Final = PurePosixPath("/tmp")  # noqa: S108 - a file system of the container's own

HOST_NAME: Final = "host.docker.internal"
"""What the engine's host is called inside."""

CREATED_BY: Final = "wegent-executor"

WARM: Final[Literal["warm"]] = "warm"
"""The label ``container_mode`` of a container that was made for no session."""

LOG_SIZE: Final = "10m"
"""Of each of the two files in which the engine keeps what a container writes."""

FIXED_ENVIRONMENT: Final[Mapping[str, str]] = MappingProxyType(
    {
        "EXECUTOR_MODE": "docker",
        "PORT": str(PORT),
        "HOST": "0.0.0.0",  # noqa: S104 - inside; the engine publishes it on 127.0.0.1 only
        "WORKSPACE_PATH": str(WORKSPACE),
        "WEGENT_EXECUTOR_HOME": str(WORKSPACE / ".wegent"),
        "EXECUTOR_API_TOKEN_FILE": str(TOKEN_FILE),
        "WEGENT_NETWORK_FILE": str(NETWORK_FILE),
        "LOCAL_ISOLATION": "none",
        "WEGENT_BUILTIN_HOOKS": "false",  # whoever made the container has them
        "HOME": str(TMP),  # writable for any uid
    }
)

_PLAIN_ID: Final = re.compile(r"(?!id\.)[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


@dataclass(frozen=True, slots=True)
class Limits:
    """What a container may use.

    Attributes:
        memory: Bytes; there is no swap beyond it. What lies in ``/tmp`` counts, too.
        cpus: Of one core.
        pids: Processes and threads.
        tmp_size: Bytes in ``/tmp``.
    """

    memory: int = 4 * 2**30
    cpus: float = 2.0
    pids: int = 1024
    tmp_size: int = 2**30


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """One container.

    Attributes:
        name: See :func:`session_name` and :func:`warm_name`.
        directory: On the engine's host; becomes ``/workspace``, the only mount.
        user: Uid and gid of its processes.
        network: A private network of the engine, on which no port is published; ``None``: a port
            on 127.0.0.1 is.
        session_id, user_id, run_id: ``None`` for a warm container, which is nobody's yet.
    """

    name: str
    image: str
    directory: Path
    user: tuple[int, int]
    owner: str
    mode: ContainerMode | Literal["warm"]
    limits: Limits = field(default_factory=Limits)
    network: str | None = None
    session_id: str | None = None
    user_id: str | None = None
    run_id: str | None = None

    @property
    def labels(self) -> dict[str, str]:
        """By which it is found again; nothing in them is secret."""
        labels = {**owner_labels(self.owner), "container_mode": self.mode}
        if self.session_id is not None:
            labels["session_id"] = self.session_id
        if self.run_id is not None:
            labels["run_id"] = self.run_id
        return labels

    @property
    def environment(self) -> dict[str, str]:
        """What every process inside sees; nothing in it is secret."""
        environment = dict(FIXED_ENVIRONMENT)
        if self.session_id is not None:
            environment["SESSION_ID"] = self.session_id
        if self.user_id is not None:
            environment["USER_ID"] = self.user_id
        return environment

    def config(self, available_cpus: int) -> dict[str, Any]:
        """The body of the engine's request to create it.

        Args:
            available_cpus: Of the engine's host: a limit above that is refused.
        """
        return {
            "Image": self.image,
            "User": "{}:{}".format(*self.user),
            "Env": [f"{name}={value}" for name, value in sorted(self.environment.items())],
            "Labels": self.labels,
            "ExposedPorts": {f"{PORT}/tcp": {}},
            "HostConfig": self._host_config(available_cpus),
        }

    def _host_config(self, available_cpus: int) -> dict[str, Any]:
        limits = self.limits
        config: dict[str, Any] = {
            "Init": True,  # reaps what an agent's commands leave behind
            "AutoRemove": False,  # the log of a dead container is read first
            "RestartPolicy": {"Name": "no"},
            "Privileged": False,
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges:true"],
            "ReadonlyRootfs": True,
            "IpcMode": "private",
            "Memory": limits.memory,
            "MemorySwap": limits.memory,  # memory and swap together: none is left for swap
            "NanoCpus": round(min(limits.cpus, available_cpus) * 1e9),
            "PidsLimit": limits.pids,
            "Tmpfs": {str(TMP): f"rw,nosuid,nodev,exec,mode=1777,size={limits.tmp_size}"},
            "Mounts": [
                {
                    "Type": "bind",
                    "Source": str(self.directory),
                    "Target": str(WORKSPACE),
                    "BindOptions": {"Propagation": "rprivate"},
                },
                {
                    # Without a name, so it goes with its container; with labels, so it is found
                    # when somebody has removed that without it.
                    "Type": "volume",
                    "Target": str(GIVEN),
                    "VolumeOptions": {"NoCopy": True, "Labels": owner_labels(self.owner)},
                },
            ],
            "ExtraHosts": [f"{HOST_NAME}:host-gateway"],
            "LogConfig": {
                "Type": "json-file",  # whatever the engine's own default: this one can be read
                "Config": {"max-size": LOG_SIZE, "max-file": "2"},
            },
        }
        if self.network is None:
            config["PortBindings"] = {f"{PORT}/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]}
        else:
            config["NetworkMode"] = self.network
        return config


def owner_labels(owner: str) -> dict[str, str]:
    """What all containers and volumes of one owner have, and nothing else has."""
    return {"owner": owner, "created_by": CREATED_BY}


def session_name(owner: str, session_id: str) -> str:
    """The name of a session's container: from the whole id, and never that of another one.

    An id with characters that a name cannot have is told by its digest.
    """
    plain = session_id if _PLAIN_ID.fullmatch(session_id) else f"id.{_digest(session_id)}"
    return f"wegent-{_digest(owner)[:12]}-{plain}"


def warm_name(owner: str, key: str) -> str:
    """The name of a container that waits for a session.

    Args:
        key: Plain characters, of this container alone.
    """
    return f"wegent-{_digest(owner)[:12]}.warm-{key}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
