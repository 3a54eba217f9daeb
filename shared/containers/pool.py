"""The containers of one executor: one for a session, some kept warm, and never too many.

A pool belongs to one event loop and to one *owner*, whose containers are all those on the engine
with that label.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from pydantic import SecretStr

from shared.containers.death import Death
from shared.containers.images import OnPull
from shared.containers.spec import Limits

if TYPE_CHECKING:
    from shared.containers.engine import Engine


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """How a pool makes and keeps containers.

    Attributes:
        owner: Names the executor's home; plain text, no secret. No two living pools share it.
        image: What a container is made from, unless a call names another.
        state_dir: Where the pool writes down which container serves which session, with its
            token; only the owner may read it.
        logs_dir: Where the logs of removed containers go.
        warm_dir: Where the directories of warm containers lie; on the file system of the
            sessions' directories, since one becomes the other by a rename.
        max_containers: At most so many at once, warm ones and idle ones included.
        warm_containers: So many are kept ready.
        network: A private network of the engine; ``None``: ports on 127.0.0.1.
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


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a session's container is reached.

    Attributes:
        executor_url: ``http://host:port`` without a path.
        token: Opens its API.
    """

    executor_url: str
    container_id: str
    token: SecretStr


@dataclass(frozen=True, slots=True)
class Reconciled:
    """What a pool found of its former life.

    Attributes:
        adopted: By run, the living containers that go on; their runs hold them again.
        dead: By run, how the container of an unfinished run has ended; it is removed.
        removed: How many others were removed.
    """

    adopted: Mapping[str, Endpoint]
    dead: Mapping[str, Death]
    removed: int


class ContainerPool:
    """Gives each session its container.

    Enter it to begin its background work. Leaving it removes the warm and idle containers; those
    that a run holds go on, to be found by :meth:`reconcile` of the next pool.

    Whatever asks the engine raises :class:`~shared.containers.errors.EngineUnavailable` when that
    is not there or hangs.

    Args:
        engine: Open; whoever has opened it closes it, after the pool.
    """

    def __init__(self, engine: Engine, settings: PoolSettings) -> None:
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        raise NotImplementedError

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def get_or_create_container(
        self,
        session_id: str,
        user_id: str,
        container_mode: str = "ephemeral",
        container_id: str | None = None,
        *,
        image: str | None = None,
        session_dir: Path,
        run_id: str,
        on_pull: OnPull | None = None,
    ) -> Endpoint:
        """The session's container, ready for *run_id*, which holds it until :meth:`release`.

        A session has one container at a time: calls for one session wait for each other and get
        the same one. May be cancelled at any time; nothing is left behind then.

        Args:
            container_mode: ``ephemeral``: removed when the last run has released it;
                ``persistent``: kept for later runs of the session, until the room is needed.
            container_id: The container that is expected to serve the session; when it does not
                (any more), another one is made.
            image: ``None``: the pool's own.
            session_dir: Absolute. When it does not exist, a warm container's directory becomes
                it, or it is made; when it does, it must be a directory and no link.

        Raises:
            Refusal: ``busy``: all containers are in use.
            ImageUnavailable: The image cannot be had.
            ContainerDied: It ended while it was starting; its log is saved.
            ContainerError: It was not ready in time, or could not be made.
        """
        raise NotImplementedError

    async def release(self, container_id: str, *, run_id: str, keep: bool = True) -> None:
        """*run_id* is over: an ephemeral container goes, a persistent one stays; harmless again.

        The removal itself goes on in the background.

        Args:
            keep: ``False``: a persistent one goes, too, such as one that does not answer.
        """
        raise NotImplementedError

    async def remove_session(self, session_id: str) -> None:
        """Remove the session's container, even from under a run; its directory stays."""
        raise NotImplementedError

    async def reconcile(self, unfinished: Collection[str]) -> Reconciled:
        """Take up containers whose run is in *unfinished* again, and remove all others of ours.

        To be called before the first container is asked for, and once only.

        Args:
            unfinished: Run ids as given to :meth:`get_or_create_container`.
        """
        raise NotImplementedError

    async def death(self, container_id: str) -> Death | None:
        """How a container has ended; ``None``: it lives.

        Never raises for an engine that does not answer: then the container is taken for dead with
        ``engine_lost``. Its log is saved. It is still to be released.
        """
        raise NotImplementedError

    def ran_out_of_memory(self, container_id: str) -> bool:
        """Whether a process in the container was ended for its memory, the first or another."""
        raise NotImplementedError

    async def pause(self, container_id: str) -> None:
        """Stop every process inside where it stands; harmless again."""
        raise NotImplementedError

    async def unpause(self, container_id: str) -> None:
        """Let them go on; harmless when it is not paused."""
        raise NotImplementedError

    def has_room(self, session_id: str) -> bool:
        """Whether a container for the session could be had now, going by what the pool knows."""
        raise NotImplementedError

    async def stats(self) -> dict[str, Any]:
        """``total_active``, ``persistent_containers``, ``ephemeral_containers``,
        ``warm_containers``, and ``containers`` with ``container_id``, ``name``, ``status``,
        ``mode``, ``session_id`` each."""
        raise NotImplementedError

    async def close(self) -> None:
        """End the background work and remove warm and idle containers; harmless again."""
        raise NotImplementedError
