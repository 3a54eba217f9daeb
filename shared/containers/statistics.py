"""The containers of a pool in numbers, as seed 000's ``/executor/stats`` shows them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from shared.containers.members import Member
from shared.containers.spec import WARM

STARTING: Final = "starting"
"""The status of a container that the engine does not list yet."""


def describe(members: Iterable[Member], statuses: Mapping[str, str]) -> dict[str, Any]:
    """What :meth:`ContainerPool.stats` answers.

    Args:
        statuses: The engine's words, by container.
    """
    containers = [
        {
            "container_id": member.container_id,
            "name": member.name,
            "status": statuses.get(member.container_id or "", STARTING),
            "mode": WARM if member.session_id is None else member.mode,
            "session_id": member.session_id,
        }
        for member in members
    ]
    modes = [container["mode"] for container in containers]
    return {
        "total_active": len(containers),
        "persistent_containers": modes.count("persistent"),
        "ephemeral_containers": modes.count("ephemeral"),
        "warm_containers": modes.count(WARM),
        "containers": containers,
    }
