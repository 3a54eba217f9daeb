"""How a pool makes and keeps containers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from shared.containers.spec import Limits


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """What the operator, or the composition root, decides.

    Attributes:
        owner: Names the executor's home; plain text, no secret. No two living pools share it.
        image: What a container is made from, unless a call names another.
        state_dir: Where the pool writes down which container serves which session, with its
            token; only the owner may read it.
        logs_dir: Where the logs of removed containers go.
        warm_dir: Where the directories of warm containers lie; on the file system of the
            sessions' directories, since one becomes the other by a rename. The pool's alone:
            what else lies in there is deleted.
        max_containers: At most so many at once, warm ones and idle ones included.
        warm_containers: So many are kept ready.
        files: What every container is given besides its token, by name; may be secret, and large.
        network: A private network of the engine; ``None``: ports on 127.0.0.1.
        state_limit_s, health_limit_s: What a container may take until it runs, and from then on
            until the executor inside answers.
    """

    owner: str
    image: str
    state_dir: Path
    logs_dir: Path
    warm_dir: Path
    max_containers: int = 10
    warm_containers: int = 0
    limits: Limits = field(default_factory=Limits)
    network: str | None = None
    files: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    state_limit_s: float = 30.0
    health_limit_s: float = 60.0
