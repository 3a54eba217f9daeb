"""Removing containers, their logs saved, and finding those that could not be removed in time."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Final

from shared.containers.death import save_log
from shared.containers.directories import remove_directory
from shared.containers.errors import ContainerError
from shared.containers.members import Members
from shared.containers.records import Records
from shared.containers.spec import owner_labels
from shared.logging import get_logger

if TYPE_CHECKING:
    from shared.containers.engine import Engine

logger = get_logger("containers")

STOP_GRACE_S: Final = 5
"""An executor without a run ends in far less."""

AT_ONCE: Final = 4
"""So many leftovers are removed at a time."""

FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 60.0


class Remover:
    """Removes containers of one owner.

    Args:
        warm_dir: Each directory in there that no member has goes with a sweep.
    """

    def __init__(
        self,
        engine: Engine,
        owner: str,
        members: Members,
        records: Records,
        *,
        logs_dir: Path,
        warm_dir: Path,
    ) -> None:
        self._engine = engine
        self._labels = owner_labels(owner)
        self._members = members
        self._records = records
        self._logs_dir = logs_dir
        self._warm_dir = warm_dir
        self._wanted = asyncio.Event()
        self._leaving: set[str] = set()

    def log_file(self, name: str, container_id: str) -> Path:
        """Where the log of a container is saved."""
        return self._logs_dir / f"{name}.{container_id[:12]}.log"

    async def remove(self, container_id: str, saved: Path, *, grace_s: int = 0) -> None:
        """Stop and remove a container; an engine that cannot do it now is asked again later.

        Args:
            saved: Where its log goes.
            grace_s: How long it may take to end by itself; 0: it is killed.
        """
        self._leaving.add(container_id)
        try:
            if grace_s:
                await self._engine.stop(container_id, grace_s)
            await self._take_away(container_id, saved)
        except ContainerError as exc:
            logger.warning("a container could not be removed yet: %s", exc.message)
            self.sweep_later()
        else:
            await self._records.forget(container_id)
        finally:
            self._leaving.discard(container_id)

    def sweep_later(self) -> None:
        """Have :meth:`run` look for containers of ours that are nobody's."""
        self._wanted.set()

    async def run(self) -> None:
        """Sweep whenever that is asked for, until it is cancelled; again if the engine cannot."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            pause = FIRST_PAUSE_S
            while True:
                try:
                    await self.sweep()
                    break
                except ContainerError as exc:
                    logger.debug("could not look for containers left over: %s", exc.message)
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE_S)

    async def sweep(self) -> int:
        """Remove all containers of ours that are no members, and what belongs to them; how many.

        Raises:
            ContainerError: The engine could not do all of it.
        """
        found = await self._engine.containers(self._labels)
        doomed = [
            c
            for c in found
            if not self._members.knows(c.container_id, c.name)
            and c.container_id not in self._leaving
        ]
        turns = asyncio.Semaphore(AT_ONCE)

        async def remove(container_id: str, name: str) -> None:
            async with turns:
                # Its name may have been given to a member since; its id never is.
                await self._take_away(container_id, self.log_file(name, container_id))

        results = await asyncio.gather(
            *(remove(c.container_id, c.name) for c in doomed), return_exceptions=True
        )
        for result in results:
            if isinstance(result, BaseException):
                raise result
        if doomed:
            logger.info("%d containers left over were removed", len(doomed))
        await self._forget_the_gone()
        await asyncio.to_thread(self._remove_directories)
        if not await self._engine.remove_unused_volumes(self._labels):
            asyncio.get_running_loop().call_later(FIRST_PAUSE_S, self.sweep_later)
        return len(doomed)

    async def _take_away(self, container_id: str, saved: Path) -> None:
        await save_log(self._engine, container_id, saved)
        await self._engine.remove(container_id)

    async def _forget_the_gone(self) -> None:
        for container_id in await self._records.read():
            if self._members.of_container(container_id) is None:
                await self._records.forget(container_id)

    def _remove_directories(self) -> None:
        try:
            there = list(self._warm_dir.iterdir())
        except FileNotFoundError:
            return
        except OSError as exc:  # of no consequence: the next sweep looks again
            logger.warning("%s cannot be looked into: %s", self._warm_dir, exc.strerror)
            return
        used = {member.directory for member in self._members}  # later: a member comes first
        for directory in there:
            if directory not in used:
                remove_directory(directory)
