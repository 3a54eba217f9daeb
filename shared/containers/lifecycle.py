"""How the members of a pool come to be, are taken up again, and go."""

from __future__ import annotations

import asyncio
import os.path
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import aiohttp

from shared.containers.background import Background
from shared.containers.death import Death, examine
from shared.containers.directories import container_user, remove_directory, take_over
from shared.containers.errors import NameTaken
from shared.containers.images import OnPull
from shared.containers.members import Endpoint, Member, Members
from shared.containers.readiness import healthy
from shared.containers.records import Record, Records
from shared.containers.removal import STOP_GRACE_S, Remover
from shared.containers.settings import PoolSettings
from shared.containers.spec import (
    WARM,
    ContainerMode,
    ContainerSpec,
    session_name,
    warm_name,
)
from shared.containers.starting import Starter
from shared.logging import get_logger

if TYPE_CHECKING:
    from pathlib import Path

    from shared.containers.engine import Engine

logger = get_logger("containers")


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


class Lifecycle:
    """Makes and removes members; whoever calls decides when, and for whom."""

    def __init__(
        self,
        engine: Engine,
        http: aiohttp.ClientSession,
        settings: PoolSettings,
        members: Members,
        remover: Remover,
        background: Background,
    ) -> None:
        self._engine = engine
        self._http = http
        self._settings = settings
        self._members = members
        self._remover = remover
        self._background = background
        self._records = Records(settings.state_dir)
        self._starter = Starter(engine, http, settings, remover, background)
        self._user = container_user()
        self._leaving: dict[str, asyncio.Task[None]] = {}  # by name

    def session_member(
        self, session_id: str, image: str, mode: ContainerMode, directory: Path
    ) -> Member:
        """A member for a session; it has no container yet."""
        name = session_name(self._settings.owner, session_id)
        return Member(name, image, mode, directory, session_id)

    def warm_member(self, key: str) -> Member:
        """A member for nobody; it has no container yet."""
        name = warm_name(self._settings.owner, key)
        settings = self._settings
        return Member(name, settings.image, "ephemeral", settings.warm_dir / key)

    async def start(
        self,
        member: Member,
        *,
        user_id: str | None = None,
        run_id: str | None = None,
        on_pull: OnPull | None = None,
    ) -> None:
        """Give *member* a container that answers; see :meth:`Starter.start`."""
        mode: ContainerMode | Literal["warm"] = WARM if member.session_id is None else member.mode
        spec = ContainerSpec(
            name=member.name,
            image=member.image,
            directory=member.directory,
            user=self._user,
            owner=self._settings.owner,
            mode=mode,
            limits=self._settings.limits,
            network=self._settings.network,
            session_id=member.session_id,
            user_id=user_id,
            run_id=run_id,
        )
        try:
            member.endpoint = await self._starter.start(spec, on_pull)
        except BaseException:
            self._background.spawn(self._remove_unstarted(member))
            raise

    async def claim(
        self, session_id: str, run_id: str, mode: ContainerMode, directory: Path
    ) -> Member | None:
        """A warm member that serves the session from now on; ``None``: there is none for it."""
        while not await asyncio.to_thread(os.path.lexists, directory):
            member = next((m for m in self._members.warm if m.endpoint), None)
            if member is None or member.endpoint is None:
                return None
            self._members.drop(member)
            member.name = session_name(self._settings.owner, session_id)
            member.session_id, member.mode, member.runs = session_id, mode, {run_id}
            self._members.add(member)
            try:
                if await self.alive(member):
                    await self._rename(member.endpoint.container_id, member.name)
                    if await asyncio.to_thread(take_over, member.directory, directory):
                        member.directory = directory
                        return member
            except BaseException:
                self.remove(member, grace_s=0)
                raise
            await asyncio.wait({self.remove(member, grace_s=0)})
        return None

    async def alive(self, member: Member) -> bool:
        """Whether the member's executor answers; a paused one goes on."""
        if member.endpoint is None:
            return False
        state = await self._engine.inspect(member.endpoint.container_id)
        if state is None or not state.running:
            return False
        if state.paused:
            await self._engine.unpause(member.endpoint.container_id)
        return await healthy(self._http, member.endpoint.executor_url)

    async def take_up(
        self, unfinished: Collection[str]
    ) -> tuple[dict[str, Endpoint], dict[str, Death]]:
        """Adopt the containers of a former life that hold *unfinished* runs; by run."""
        adopted: dict[str, Endpoint] = {}
        dead: dict[str, Death] = {}
        for record in (await self._records.read()).values():
            held = set(unfinished).intersection(record.runs)
            if not held:
                continue
            found = await self._adopt(record, held)
            if isinstance(found, Death):
                dead.update(dict.fromkeys(held, found))
            else:
                adopted.update(dict.fromkeys(held, found))
        return adopted, dead

    async def _adopt(self, record: Record, runs: set[str]) -> Endpoint | Death:
        """Take the container of a former life up again, held by *runs*; a dead one is left."""
        state = await self._engine.inspect(record.container_id)
        if state is None:
            return Death(removed=True)
        url = state.url(self._settings.network)
        if not state.running or url is None:
            saved = self._remover.log_file(state.name, record.container_id)
            return await examine(self._engine, record.container_id, saved) or Death()
        if state.paused:
            await self._engine.unpause(record.container_id)
        endpoint = Endpoint(url, record.container_id, record.token)
        member = Member(
            state.name, record.image, record.mode, record.directory, record.session_id, endpoint
        )
        member.runs = runs
        self._members.add(member)
        return endpoint

    async def write_down(self, member: Member) -> Endpoint:
        """Have the next pool know of *member*; where that is."""
        if member.endpoint is None or member.session_id is None:
            raise RuntimeError("there is nothing to be written down yet")
        await self._records.write(
            Record(
                container_id=member.endpoint.container_id,
                session_id=member.session_id,
                mode=member.mode,
                image=member.image,
                directory=member.directory,
                runs=tuple(member.runs),
                token=member.endpoint.token,
            )
        )
        return member.endpoint

    def remove(self, member: Member, *, grace_s: int = STOP_GRACE_S) -> asyncio.Task[None]:
        """Begin to remove *member*, which has no place from now on.

        The task may be waited for with ``asyncio.wait``, and must not be cancelled.
        """
        self._members.drop(member)
        name = member.name
        task = self._background.spawn(self._remove(member, 0 if member.died else grace_s))
        self._leaving[name] = task
        task.add_done_callback(lambda done: self._left(name, done))
        return task

    async def wait_left(self, session_id: str) -> None:
        """Wait until a container of the session that is being removed is gone."""
        name = session_name(self._settings.owner, session_id)
        while (task := self._leaving.get(name)) is not None:
            await asyncio.wait({task})

    async def _remove(self, member: Member, grace_s: int) -> None:
        if member.endpoint is not None:
            container_id = member.endpoint.container_id
            saved = self._remover.log_file(member.name, container_id)
            await self._remover.remove(container_id, saved, grace_s=grace_s)
        await self._remove_directory(member)

    async def _remove_unstarted(self, member: Member) -> None:
        await self._starter.wait_discarded(member.name)
        await self._remove_directory(member)

    async def _remove_directory(self, member: Member) -> None:
        """Delete the directory of *member*, unless it is a session's."""
        if member.directory.parent == self._settings.warm_dir:
            await asyncio.to_thread(remove_directory, member.directory)

    def _left(self, name: str, task: asyncio.Task[None]) -> None:
        if self._leaving.get(name) is task:
            del self._leaving[name]

    async def _rename(self, container_id: str, name: str) -> None:
        try:
            await self._engine.rename(container_id, name)
        except NameTaken:
            await self._starter.remove_leftover(name, self._settings.owner)
            await self._engine.rename(container_id, name)
