"""The container that one run holds: taken from the pool, asked with patience, given back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, TypeVar

from executor.tasks.containers.client import ContainerClient, Unreachable
from shared.containers.death import Death
from shared.containers.errors import ContainerDied, ContainerError, EngineUnavailable
from shared.containers.images import OnPull
from shared.containers.pool import Endpoint
from shared.errors import Refusal, RunError, WegentError
from shared.logging import get_logger
from shared.protocol.events import RunRef
from shared.status import ErrorCode

logger = get_logger("held_container")

PATIENCE_S: Final = 60.0
"""How long a living container may not answer, and an engine be away, before the run fails."""

_DELAYS_S: Final = (0.1, 0.2, 0.5, 1.0)
"""Pauses between attempts; the last one again and again."""

T = TypeVar("T")


class Pool(Protocol):
    """What a run needs of :class:`shared.containers.pool.ContainerPool`."""

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
        """The session's container, held by the run."""
        ...

    async def release(self, container_id: str, *, run_id: str, keep: bool = True) -> None:
        """The run is over."""
        ...

    async def wait_engine(self, within_s: float) -> None:
        """Wait until the engine is there."""
        ...

    async def remove_session(self, session_id: str) -> None:
        """Remove the session's container, even from under a run."""
        ...

    def ran_out_of_memory(self, container_id: str) -> bool:
        """Whether a process in the container was ended for its memory."""
        ...

    async def death(self, container_id: str) -> Death | None:
        """How a container has ended; ``None``: it lives."""
        ...

    async def pause(self, container_id: str) -> None:
        """Stop every process inside where it stands."""
        ...

    async def unpause(self, container_id: str) -> None:
        """Let them go on."""
        ...


@dataclass(frozen=True, slots=True)
class Wanted:
    """The container that a run needs.

    Attributes:
        session_dir: Becomes ``/workspace`` in it.
        user_id: Whom it is for; empty when nobody said.
        mode: ``ephemeral`` or ``persistent``.
        image: ``None``: the pool's own.
    """

    run: RunRef
    session_dir: Path
    user_id: str = ""
    mode: str = "ephemeral"
    image: str | None = None

    @property
    def run_id(self) -> str:
        """What the run is called inside, and by the pool."""
        return str(self.run.subtask_id)


class HeldContainer:
    """At most one container at a time."""

    def __init__(
        self,
        wanted: Wanted,
        pool: Pool,
        connect: Callable[[Endpoint], ContainerClient],
        *,
        endpoint: Endpoint | None = None,
        patience_s: float = PATIENCE_S,
    ) -> None:
        """Hold *endpoint*, or nothing yet.

        Args:
            connect: Makes the client of a container.
            patience_s: See :data:`PATIENCE_S`.
        """
        self._wanted = wanted
        self._pool = pool
        self._connect = connect
        self._patience_s = patience_s
        self._endpoint = endpoint
        self.client = None if endpoint is None else connect(endpoint)
        """Talks to the executor inside; ``None``: no container is held."""
        self._unpaused = asyncio.Event()
        self._unpaused.set()
        self._stands = False  # whether the container is known to be paused

    async def take(self, on_pull: OnPull, *, again: bool) -> ContainerClient:
        """Hold the session's container; waits as long as all of them are in use.

        Args:
            again: Whether the engine has just been there, and may be back soon.

        Raises:
            ContainerError: It cannot be had.
        """
        if self.client is not None:
            return self.client
        wanted = self._wanted
        give_up_at = _now() + self._patience_s
        while self._endpoint is None:
            try:
                self._endpoint = await self._pool.get_or_create_container(
                    wanted.run.session,
                    wanted.user_id,
                    wanted.mode,
                    image=wanted.image,
                    session_dir=wanted.session_dir,
                    run_id=wanted.run_id,
                    on_pull=on_pull,
                )
            except Refusal as exc:
                if exc.error_code is not ErrorCode.BUSY:
                    raise
                await asyncio.sleep(_DELAYS_S[-1])
            except EngineUnavailable:
                if not again or _now() >= give_up_at:
                    raise
                await self._engine_until(give_up_at)
        if not self._unpaused.is_set():
            await self._have_stand(self._endpoint.container_id)
        self.client = self._connect(self._endpoint)
        return self.client

    async def ask(self, question: Callable[[], Awaitable[T]]) -> T:
        """What *question* returns, asked again as long as the container may still answer.

        Raises:
            ContainerDied: It has ended.
            EngineUnavailable: There is no engine any more.
            RunError: It lives, and has not answered for too long.
        """
        give_up_at, delays = _now() + self._patience_s, iter(_DELAYS_S)
        while True:
            try:
                return await question()
            except (Unreachable, Refusal) as exc:
                problem: WegentError = exc
            if not self._unpaused.is_set():
                await self._unpaused.wait()
                give_up_at = _now() + self._patience_s
            await self.check_life()
            if _now() >= give_up_at:
                raise RunError(ErrorCode.CONTAINER_FAILED, problem.message)
            await asyncio.sleep(next(delays, _DELAYS_S[-1]))

    async def check_life(self) -> None:
        """Look whether it has ended; waits for an engine that is away.

        Raises:
            ContainerDied: It has.
            EngineUnavailable: Nobody can tell.
        """
        if self._endpoint is None:
            return
        give_up_at = _now() + self._patience_s
        death = await self._pool.death(self._endpoint.container_id)
        while death is not None and _unknown(death) and _now() < give_up_at:
            # Some engines leave their containers running when they end.
            await self._engine_until(give_up_at)
            death = await self._pool.death(self._endpoint.container_id)
        if death is not None:
            raise ContainerDied(death)

    @property
    def ran_out_of_memory(self) -> bool:
        """Whether a process in it was ended for its memory, be it the first or another one."""
        return self._endpoint is not None and self._pool.ran_out_of_memory(
            self._endpoint.container_id
        )

    async def pause(self) -> None:
        """Stop what it does where it stands, also what it would do later; harmless again."""
        self._unpaused.clear()
        if self._endpoint is not None and not self._stands:
            await self._have_stand(self._endpoint.container_id)

    async def resume(self) -> None:
        """Let it go on; harmless when it is not paused."""
        if not self._unpaused.is_set():
            if self._endpoint is not None:
                await self._pool.unpause(self._endpoint.container_id)
            self._stands = False
            self._unpaused.set()

    async def _have_stand(self, container_id: str) -> None:
        await self._pool.pause(container_id)
        self._stands = True

    async def wake(self) -> None:
        """Let it go on after an earlier process may have left it paused.

        Raises:
            Unreachable: The engine cannot do that now.
        """
        if self._endpoint is None:
            return
        try:
            await self._pool.unpause(self._endpoint.container_id)
        except ContainerError as exc:
            raise Unreachable(exc.message) from None

    async def _engine_until(self, give_up_at: float) -> None:
        """Wait for the engine; the pool may not have noticed yet that it is away."""
        await asyncio.sleep(_DELAYS_S[-1])
        await self._pool.wait_engine(max(0.0, give_up_at - _now()))

    async def give_back(self, *, keep: bool) -> None:
        """Hold it no longer; *keep*: it may serve the session again. Harmless again."""
        endpoint, self._endpoint, self.client = self._endpoint, None, None
        if endpoint is None:
            return
        try:
            await self._pool.release(endpoint.container_id, run_id=self._wanted.run_id, keep=keep)
        except WegentError as exc:
            logger.warning("a container could not be given back: %s", exc)

    async def remove(self) -> None:
        """End everything in it now."""
        if self._endpoint is None:
            return
        try:
            await self._pool.remove_session(self._wanted.run.session)
        except WegentError as exc:
            logger.warning("a container could not be removed: %s", exc)


def _unknown(death: Death) -> bool:
    """Whether only the engine is away, which alone knows how the container is."""
    return death.engine_lost and death.exit_code is None


def _now() -> float:
    return asyncio.get_running_loop().time()
