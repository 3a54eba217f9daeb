"""The home of an executor while it runs: locked, cleared of what was left, and opened."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from executor.agents import subreaper
from executor.agents.orphans import end_left_behind
from executor.config.settings import ExecutorSettings
from executor.delivery.reserve import has_room
from executor.delivery.state import StateStore
from executor.executor_id import load_executor_id
from executor.home_lock import HomeLock
from executor.signals import StopSignals
from executor.tasks.agent_environment import claude_state
from executor.tasks.disk_room import is_disk_full
from executor.tasks.isolation import temporary_folder
from shared.errors import ConfigError
from shared.logging import get_logger
from shared.private_files import empty_directory, make_private_directory
from shared.shielding import in_thread

logger = get_logger("home")

ROOM_CHECK_S: Final = 2.0
"""How often a start on a full disk looks whether there is room by now."""


def private_dir(settings: ExecutorSettings) -> Path:
    """Where files lie that hold secrets of running agents; emptied at every start."""
    return settings.home / "private"


@dataclass(frozen=True, slots=True)
class Home:
    """A home that this process has for itself, and what it remembers."""

    executor_id: str
    state: StateStore


@asynccontextmanager
async def opened_home(settings: ExecutorSettings, stop: StopSignals) -> AsyncIterator[Home | None]:
    """Have the home until the end of the context; ``None``: told to stop before it was open.

    Processes that an executor of this home has left behind are ended first.

    Raises:
        ConfigError: The home cannot be used, or another executor is using it.
    """
    lock = await in_thread(HomeLock.acquire, settings.home)
    adopting = False
    try:
        adopting = await asyncio.to_thread(subreaper.adopt)
        await end_left_behind(private_dir(settings), temporary_folder(settings.home))
        home = await _open(settings, stop)
        if home is None:
            yield None
            return
        reaping = asyncio.create_task(subreaper.reap_forever(), name="reap") if adopting else None
        try:
            yield home
        finally:
            if reaping is not None:
                reaping.cancel()
            await home.state.close()
    finally:
        if adopting:  # this process may be a server that goes on
            subreaper.adopt(on=False)
        lock.release()


async def _open(settings: ExecutorSettings, stop: StopSignals) -> Home | None:
    """Open what the home holds, once its disk has room; ``None``: told to stop before that.

    A full disk is no reason to end: a supervisor starts nobody again whose settings are wrong.

    Raises:
        ConfigError: The home cannot be used for another reason.
    """
    waiting = had_room = False
    while True:
        try:
            executor_id = await asyncio.to_thread(_prepare, settings)
            return Home(executor_id, await StateStore.open(settings.state_file))
        except ConfigError as exc:
            problem = exc
        # The room may have come in this moment: only a second failure is told.
        if not is_disk_full(problem) and await asyncio.to_thread(has_room, settings.home):
            if had_room:
                raise problem
            had_room = True
            continue
        had_room = False
        if not waiting:
            logger.error("no space left: waiting for some (%s)", problem)
            waiting = True
        with suppress(TimeoutError):
            async with asyncio.timeout(ROOM_CHECK_S):
                await stop.first.wait()
                return None


def _prepare(settings: ExecutorSettings) -> str:
    """Make what is missing, and clear what an executor that was killed has left; gives the id."""
    executor_id = load_executor_id(settings.home)
    try:
        make_private_directory(private_dir(settings))
        empty_directory(private_dir(settings))
        # The CLI would make it for everybody to read.
        make_private_directory(claude_state(settings.home))
    except OSError as exc:
        raise ConfigError(
            f"{exc.filename} cannot be used: {exc.strerror}",
            hint="make it writable for this user, or name another folder",
        ) from exc
    _make_workspace(settings)
    if settings.skill_clear_cache:
        shutil.rmtree(settings.home / "cache" / "skills", ignore_errors=True)
    return executor_id


def _make_workspace(settings: ExecutorSettings) -> None:
    folder = settings.only_session_dir or settings.workspace_root
    try:
        make_private_directory(folder)
    except OSError as exc:
        name = "workspace_path" if settings.only_session_dir is not None else "workspace_root"
        variable = type(settings).model_fields[name].validation_alias
        hint = f"make it for this user, or name another folder: export {variable}=<folder>"
        if "mode" not in settings.model_fields_set:  # perhaps another one was meant
            hint += "; to take tasks from a backend, set WEGENT_BACKEND_URL and WEGENT_AUTH_TOKEN"
        raise ConfigError(
            f"{variable}: {folder} cannot be made: {exc.strerror}", hint=hint
        ) from exc
