"""AgnoAgent: loads agno off the event loop, opens sessions."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
from pathlib import Path
from types import ModuleType
from typing import Final

from executor.agents.agno.conversation import Conversation, forget_old
from executor.agents.agno.installed import REMEDY
from executor.agents.agno.members import Member, read_members
from executor.agents.agno.model_api import ModelApi, OwnApis, check_budget, model_apis
from executor.agents.protocol import AgentJob, AgentSession
from shared.errors import RunError
from shared.logging import get_logger
from shared.shielding import in_thread
from shared.status import ErrorCode

logger = get_logger("agno_agent")

_FORGOTTEN: Final = "the earlier conversation is not here any more; a new one was begun"


class AgnoAgent:
    """The agent ``agno``; see :class:`executor.agents.protocol.Agent`."""

    def __init__(self, folder: Path, own: OwnApis) -> None:
        """Nothing is imported yet.

        Args:
            folder: Keeps the conversations; made when it is needed.
            own: The executor's own keys, for requests that bring none.
        """
        self._folder = folder
        self._own = own
        self._session_module: ModuleType | None = None
        self._loading: asyncio.Task[ModuleType] | None = None

    async def load(self) -> None:
        """Import agno and the SDKs of the model APIs in a thread.

        Raises:
            RunError: ``agent_error``: they cannot be imported.
        """
        if self._session_module is not None:
            return
        if self._loading is None:  # once for all who wait: it changes, and puts back, what all use
            self._loading = asyncio.create_task(asyncio.to_thread(_import_session))
        try:
            self._session_module = await asyncio.shield(self._loading)
        except ImportError as exc:
            self._loading = None
            raise RunError(
                ErrorCode.AGENT_ERROR,
                f"agno cannot be imported: {exc}",
                hint=f"on the executor's machine: {REMEDY}; then restart the executor",
            ) from exc

    async def past_cost_usd(self, job: AgentJob) -> float:
        """What the turns that are written down have cost, where their prices were given."""
        if job.resume is None:
            return 0.0
        session = job.request.run.session
        found = await in_thread(Conversation.find, self._folder, session, job.resume)
        return found.cost_usd if found is not None else 0.0

    async def open(self, job: AgentJob) -> AgentSession:
        """Begin a conversation, or continue ``job.resume``; one that is gone is begun anew.

        Raises:
            RunError: ``credentials_missing``, ``invalid_request``, or ``agent_error`` when agno
                cannot be imported.
        """
        team: Member = read_members(job.request)
        apis: dict[str, ModelApi] = model_apis(team, job.request, self._own)
        check_budget(job.request, apis)
        await self.load()
        assert self._session_module is not None  # noqa: S101 - load() has just set it
        conversation, notices = await in_thread(self._conversation, job)
        session: AgentSession = await self._session_module.open_session(
            job, team, apis, conversation, notices
        )
        return session

    def _conversation(self, job: AgentJob) -> tuple[Conversation, list[str]]:
        session = job.request.run.session
        forget_old(self._folder)
        if job.resume is None:
            return Conversation.begin(self._folder, session), []
        found = Conversation.find(self._folder, session, job.resume)
        if found is not None:
            return found, []
        return Conversation.begin(self._folder, session), [_FORGOTTEN]


def _import_session() -> ModuleType:
    if sys.modules.get("rich", sys) is None:
        del sys.modules["rich"]  # the executor hides it from structlog; agno needs it
    loggers = logging.getLoggerClass()
    # Collections on the way would stop the event loop, too, and be in vain: what is imported stays.
    gc.disable()
    try:
        from executor.agents.agno import session
        from executor.agents.agno.quiet import silence
    finally:
        gc.freeze()
        gc.enable()
        logging.setLoggerClass(loggers)  # agno puts back the one that it takes for everybody's
    silence()
    return session
