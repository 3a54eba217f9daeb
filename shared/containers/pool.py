"""The containers of one executor: one for a session, some kept warm, and never too many.

A pool belongs to one event loop and to one *owner*, whose containers are all those on the engine
with that label.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Coroutine
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, cast, get_args

import aiohttp

from shared.containers.background import Background, log_failure
from shared.containers.death import Death, examine
from shared.containers.errors import ContainerError, EngineUnavailable
from shared.containers.images import OnPull
from shared.containers.lifecycle import Lifecycle, Reconciled
from shared.containers.members import Endpoint, Member, Members
from shared.containers.records import Records
from shared.containers.removal import STOP_GRACE_S, Remover
from shared.containers.settings import PoolSettings
from shared.containers.spec import ContainerMode, owner_labels
from shared.containers.states import EngineEvent
from shared.containers.statistics import describe
from shared.containers.turns import Turns
from shared.containers.warm import WarmKeeper
from shared.containers.watch import EngineWatch
from shared.errors import ProtocolError, Refusal
from shared.logging import get_logger
from shared.status import ErrorCode

if TYPE_CHECKING:
    from shared.containers.engine import Engine

__all__ = ["ContainerPool", "Endpoint", "PoolSettings", "Reconciled"]

logger = get_logger("containers")

CLOSE_LIMIT_S: Final = 10.0
"""What is not removed by then is found by the next pool."""

ENGINE_STOPS_WITHIN_S: Final = 20.0
"""By default it gives its containers 15 s."""

SIGKILL: Final = "9"  # with which an engine that ends does not begin

MODES: Final = get_args(ContainerMode)


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
        self._engine = engine
        self._settings = settings
        self._members = Members(settings.max_containers)
        self._background = Background()
        records = Records(settings.state_dir)
        self._remover = Remover(
            engine,
            settings.owner,
            self._members,
            records,
            logs_dir=settings.logs_dir,
            warm_dir=settings.warm_dir,
        )
        self._watch = EngineWatch(engine, settings.owner, self._note, self._engine_is_back)
        self._turns = Turns()
        self._loops: list[asyncio.Task[None]] = []
        self._reconciled = False

    async def __aenter__(self) -> Self:
        # No proxy is for a container of ours, and none of its connections is worth keeping.
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(force_close=True, limit=0), trust_env=False
        )
        self._lifecycle = Lifecycle(
            self._engine,
            self._http,
            self._settings,
            self._members,
            self._remover,
            self._background,
        )
        self._keeper = WarmKeeper(
            self._members,
            self._settings.warm_containers,
            self._lifecycle.warm_member,
            self._lifecycle.start,
        )
        self._begin(self._watch.run(), "containers.watch")
        return self

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
            container_id: The container that served the session before; when it does not (any
                more), another one does.
            image: ``None``: the pool's own.
            session_dir: Absolute. When it does not exist, a warm container's directory becomes
                it, or it is made; when it does, it must be a directory and no link.

        Raises:
            Refusal: ``busy``: all containers are in use.
            ProtocolError: There is no such mode.
            ImageUnavailable: The image cannot be had.
            ContainerDied: It ended while it was starting; its log is saved.
            ContainerError: It was not ready in time, or could not be made; or *container_id*
                serves another session.
        """
        if container_mode not in MODES:
            raise ProtocolError("there is no such container mode", fields=("container_mode",))
        self._belongs(container_id, session_id)
        mode = cast("ContainerMode", container_mode)
        wanted = image or self._settings.image
        async with self._turns.of(session_id):
            member = await self._reuse(session_id, run_id, wanted)
            if member is None and wanted == self._settings.image:
                member = await self._claim(session_id, run_id, mode, session_dir)
            if member is None:
                member = self._lifecycle.session_member(session_id, wanted, mode, session_dir)
                await self._start(member, user_id, run_id, on_pull)
            try:
                if mode == "persistent":
                    member.mode = mode
                return await self._lifecycle.write_down(member)
            except BaseException:
                self._let_go(member, run_id, keep=False)
                raise

    async def release(self, container_id: str, *, run_id: str, keep: bool = True) -> None:
        """*run_id* is over: an ephemeral container goes, a persistent one stays; harmless again.

        The removal itself goes on in the background.

        Args:
            keep: ``False``: a persistent one goes, too, such as one that does not answer.
        """
        member = self._members.of_container(container_id)
        if member is None or run_id not in member.runs:
            return
        self._let_go(member, run_id, keep=keep)
        if member in self._members:
            try:
                await self._lifecycle.write_down(member)
            except ContainerError as exc:  # then a restart takes it for one of the run's
                logger.warning("%s", exc)

    async def remove_session(self, session_id: str) -> None:
        """Remove the session's container, even from under a run; its directory stays."""
        async with self._turns.of(session_id):
            if (member := self._members.of_session(session_id)) is not None:
                await asyncio.wait({self._remove(member)})

    async def reconcile(self, unfinished: Collection[str]) -> Reconciled:
        """Take up containers whose run is in *unfinished* again, and remove all others of ours.

        To be called before the first container is asked for; again only if it raised.

        Args:
            unfinished: Run ids as given to :meth:`get_or_create_container`.
        """
        adopted, dead = await self._lifecycle.take_up(unfinished)
        removed = await self._remover.sweep()
        if not self._reconciled:
            self._reconciled = True
            self._begin(self._remover.run(), "containers.sweep")
            self._begin(self._keeper.run(), "containers.warm")
        return Reconciled(adopted, dead, removed)

    async def death(self, container_id: str) -> Death | None:
        """How a container has ended; ``None``: it lives.

        Never raises for an engine that does not answer: then the container is taken for dead with
        ``engine_lost``. Its log is saved. It is still to be released.

        Takes up to 20 s for a container that the engine has stopped: until it is clear whether
        the engine itself was about to end.
        """
        member = self._members.of_container(container_id)
        name = member.name if member else "unknown"
        try:
            death = await examine(
                self._engine, container_id, self._remover.log_file(name, container_id)
            )
        except ContainerError:
            return Death(engine_lost=True)
        if death is None or member is None or death.removed:
            return death
        return replace(death, engine_lost=death.engine_lost or await self._took_along(member))

    def ran_out_of_memory(self, container_id: str) -> bool:
        """Whether a process in the container was ended for its memory, the first or another."""
        member = self._members.of_container(container_id)
        return member is not None and member.out_of_memory

    async def wait_engine(self, within_s: float) -> None:
        """Wait until the engine is there.

        Raises:
            EngineUnavailable: It was not within *within_s* seconds.
        """
        await self._watch.wait_connected(within_s)

    async def pause(self, container_id: str) -> None:
        """Stop every process inside where it stands; harmless again."""
        await self._switch(container_id, paused=True)

    async def unpause(self, container_id: str) -> None:
        """Let them go on; harmless when it is not paused."""
        await self._switch(container_id, paused=False)

    async def stats(self) -> dict[str, Any]:
        """``total_active``, ``persistent_containers``, ``ephemeral_containers``,
        ``warm_containers``, and ``containers`` with ``container_id``, ``name``, ``status``,
        ``mode``, ``session_id`` each."""
        found = await self._engine.containers(owner_labels(self._settings.owner))
        statuses = {container.container_id: container.status for container in found}
        return describe(self._members, statuses)

    async def close(self) -> None:
        """End the background work and remove warm and idle containers; harmless again."""
        for task in self._loops:
            task.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        self._loops.clear()
        for member in self._members:
            if member.spare:
                self._remove(member, grace_s=0)
        await self._background.settle(CLOSE_LIMIT_S)
        await self._http.close()

    def _begin(self, loop: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(loop, name=name)
        task.add_done_callback(log_failure)
        self._loops.append(task)

    async def _reuse(self, session_id: str, run_id: str, image: str) -> Member | None:
        """The session's own container, held by the run; ``None``: it needs another one."""
        await self._lifecycle.wait_left(session_id)
        member = self._members.of_session(session_id)
        if member is None:
            return None
        fits = member.image == image or bool(member.runs)
        member.runs.add(run_id)  # first of all, so that nobody takes it for idle
        try:
            answers = fits and await self._lifecycle.alive(member)
            if answers or (len(member.runs) > 1 and not member.died):
                return member  # another run works in there: it is not ours to remove
        except BaseException:
            self._let_go(member, run_id)
            raise
        await asyncio.wait({self._remove(member)})
        return None

    async def _claim(
        self, session_id: str, run_id: str, mode: ContainerMode, session_dir: Path
    ) -> Member | None:
        try:
            member = await self._lifecycle.claim(session_id, run_id, mode, session_dir)
        finally:
            self._keeper.look()
        if member is not None:
            self._keeper.encourage()
        return member

    async def _start(
        self, member: Member, user_id: str, run_id: str, on_pull: OnPull | None
    ) -> None:
        victim = self._members.victim() if self._members.full else None
        if self._members.full and victim is None:
            raise Refusal(
                ErrorCode.BUSY,
                f"all {self._settings.max_containers} containers are in use",
                reason="containers",
                hint="MAX_EXECUTOR_CONTAINERS sets how many there may be",
            )
        member.runs.add(run_id)
        self._members.add(member)
        try:
            if victim is not None:
                await asyncio.wait({self._remove(victim)})
            await self._lifecycle.start(member, user_id=user_id, run_id=run_id, on_pull=on_pull)
        except BaseException:
            self._members.drop(member)
            self._keeper.look()
            raise

    def _let_go(self, member: Member, run_id: str, *, keep: bool = True) -> None:
        member.runs.discard(run_id)
        member.used = time.monotonic()
        unwanted = member.mode == "ephemeral" or member.died or not keep
        if unwanted and not member.runs and member in self._members:
            self._remove(member)

    def _remove(self, member: Member, *, grace_s: int = STOP_GRACE_S) -> asyncio.Task[None]:
        task = self._lifecycle.remove(member, grace_s=grace_s)
        self._keeper.look()
        return task

    def _belongs(self, container_id: str | None, session_id: str) -> None:
        """Raises: ContainerError: The container serves another session, or none yet."""
        member = self._members.of_container(container_id) if container_id else None
        if member is not None and member.session_id != session_id:
            raise ContainerError("the container is not this session's")

    async def _switch(self, container_id: str, *, paused: bool) -> None:
        try:
            if paused:
                await self._engine.pause(container_id)
            else:
                await self._engine.unpause(container_id)
        except EngineUnavailable:
            raise
        except ContainerError:
            state = await self._engine.inspect(container_id)
            if state is None or state.paused != paused:
                raise

    async def _took_along(self, member: Member) -> bool:
        """Whether it was the engine's own end that ended the container of *member*."""
        if not member.stopped:
            # Had it ended by itself, the engine would have told: it only did not when it was away.
            return not member.died and self._watch.lost_since(member.since)
        # By somebody at the engine's command line, or by an engine that is about to end: it stops
        # its containers first.
        return await self._watch.wait_lost(member.since, ENGINE_STOPS_WITHIN_S)

    def _note(self, event: EngineEvent) -> None:
        member = self._members.of_container(event.container_id)
        if member is None:
            return
        if event.action == "destroy":
            self._remover.sweep_later()  # whoever removed it may have left its volume
        elif event.action == "oom":
            member.out_of_memory = True
        elif event.action == "kill":
            member.stopped = member.stopped or event.signal != SIGKILL
        elif event.action == "die":
            member.died = True
            if member.session_id is None:
                # An engine that stops its containers is about to end, more often than not.
                self._keeper.failed(ENGINE_STOPS_WITHIN_S if member.stopped else 0.0)
            if member.spare:
                self._remove(member)

    def _engine_is_back(self) -> None:
        if self._reconciled:
            self._remover.sweep_later()
            self._background.spawn(self._remove_dead())

    async def _remove_dead(self) -> None:
        """Whoever nobody holds and has died without the engine telling."""
        for member in self._members:
            if member.spare and not await self._lifecycle.alive(member) and member.spare:
                self._remove(member, grace_s=0)
        self._keeper.encourage()
