"""Everything that a request brings besides its prompt, placed in its session: all or none."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from executor.agents.skills import SkillSet
from executor.session_places import OUTPUT
from executor.tasks.staging.attachments import Attachments
from executor.tasks.staging.fetching import Fetcher
from executor.tasks.staging.input_files import Inputs
from executor.tasks.staging.server_list import list_servers
from executor.tasks.staging.skill_cache import SkillCache
from executor.tasks.staging.skills import Skills
from shared.private_files import PRIVATE_DIRECTORY
from shared.protocol.execution import ExecutionRequest
from shared.shielding import in_thread


@dataclass(frozen=True, slots=True)
class Staged:
    """What lies ready for a run."""

    attachments: tuple[Path, ...] = ()
    skills: SkillSet | None = None
    warnings: tuple[str, ...] = ()
    """What is not there, in sentences for the user."""


class Staging:
    """Places what requests bring.

    Args:
        backend_url: The backend this executor is connected to; ``None``: to none.
        environ: Where proxies and authorities are read from.
        cache_dir: For archives of skills.
        scratch: A private folder for temporary files.
    """

    def __init__(
        self,
        *,
        backend_url: str | None,
        environ: Mapping[str, str],
        cache_dir: Path,
        scratch: Path,
    ) -> None:
        fetcher = Fetcher(backend_url=backend_url, environ=environ)
        self._attachments = Attachments(fetcher)
        self._inputs = Inputs(fetcher)
        self._skills = Skills(fetcher, SkillCache(cache_dir), scratch)

    def check(self, request: ExecutionRequest) -> None:
        """Refuse what can be seen to be unusable; touches nothing.

        Raises:
            Refusal: ``invalid_request``, naming the field.
        """
        self._attachments.check(request)
        self._inputs.check(request)
        self._skills.check(request)

    async def stage(self, request: ExecutionRequest, session_dir: Path) -> Staged:
        """Place what *request* brings below *session_dir*, which must be trusted and there.

        Raises:
            RunError: ``attachment_failed`` or ``workspace_error``, naming the file or the skill;
                then the input files and skills are those that were there before.
            OSError: The disk is full, or the directory cannot be written.
        """
        async with AsyncExitStack() as stack:
            put_inputs = await stack.enter_async_context(self._inputs.staged(request, session_dir))
            put_skills = await stack.enter_async_context(self._skills.staged(request, session_dir))
            attachments = await self._attachments.place(request, session_dir)
            await in_thread(put_inputs)
            placed = await in_thread(put_skills)
        await in_thread(list_servers, request, session_dir)
        await asyncio.to_thread(_make_output, session_dir)
        return Staged(attachments, placed, _warnings(request))


def _make_output(session_dir: Path) -> None:
    with suppress(FileExistsError):  # whatever it is by now, it is the agent's
        (session_dir / OUTPUT).mkdir(mode=PRIVATE_DIRECTORY)


def _warnings(request: ExecutionRequest) -> tuple[str, ...]:
    missing = [skill.name for skill in request.all_skills if not skill.brings_content]
    if not missing:
        return ()
    listed = ", ".join(missing)[:500]
    return (f"skills that were named, but not brought, are not available here: {listed}",)
