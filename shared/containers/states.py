"""What the engine says about containers, in our own words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from shared.containers.spec import PORT


@dataclass(frozen=True, slots=True)
class ContainerState:
    """A container as the engine sees it.

    Attributes:
        running: Whether it has processes; so does a paused one.
        exit_code: Of the first process; says something only when it has run and runs no more.
        addresses: By network, the container's address in it.
        host_port: The port on 127.0.0.1 that leads to it; ``None`` without one.
    """

    container_id: str
    name: str
    labels: Mapping[str, str]
    running: bool
    paused: bool
    exit_code: int
    out_of_memory: bool
    addresses: Mapping[str, str]
    host_port: int | None

    @classmethod
    def read(cls, shown: Mapping[str, Any]) -> Self:
        """From the engine's answer."""
        state, network = shown["State"], shown["NetworkSettings"]
        published = (network.get("Ports") or {}).get(f"{PORT}/tcp") or []
        return cls(
            container_id=shown["Id"],
            name=shown["Name"].removeprefix("/"),
            labels=shown["Config"].get("Labels") or {},
            running=state["Running"],
            paused=state["Paused"],
            exit_code=state["ExitCode"],
            out_of_memory=state["OOMKilled"],
            addresses={
                name: there["IPAddress"]
                for name, there in (network.get("Networks") or {}).items()
                if there.get("IPAddress")
            },
            host_port=int(published[0]["HostPort"]) if published else None,
        )

    def url(self, network: str | None) -> str | None:
        """Where the executor inside is reached; ``None``: nowhere (yet).

        Args:
            network: A private network; ``None``: by the port on 127.0.0.1.
        """
        if network is None:
            return f"http://127.0.0.1:{self.host_port}" if self.host_port else None
        address = self.addresses.get(network)
        return f"http://{address}:{PORT}" if address else None


@dataclass(frozen=True, slots=True)
class Listed:
    """A line of the list of containers.

    Attributes:
        status: The engine's word: ``created``, ``running``, ``paused``, ``exited``, ….
    """

    container_id: str
    name: str
    labels: Mapping[str, str]
    status: str

    @classmethod
    def read(cls, listed: Any) -> Self:
        """From the engine's answer, an item of which is what aiodocker calls a container."""
        return cls(
            container_id=listed["Id"],
            name=listed["Names"][0].removeprefix("/"),
            labels=listed["Labels"],
            status=listed["State"],
        )


@dataclass(frozen=True, slots=True)
class EngineEvent:
    """Something that happened to a container.

    Attributes:
        action: The engine's word, such as ``die`` or ``oom``.
        signal: Of a ``kill``, its number; otherwise empty.
    """

    container_id: str
    action: str
    signal: str = ""

    @classmethod
    def read(cls, event: Mapping[str, Any]) -> Self:
        """From a line of the engine's stream."""
        actor = event.get("Actor", {})
        return cls(
            container_id=str(actor.get("ID", "")),
            action=str(event.get("Action", "")),
            signal=str(actor.get("Attributes", {}).get("signal", "")),
        )
