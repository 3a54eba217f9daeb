"""ContainerRunHandler: a run in a container, carried out by the same executor in docker mode."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from weakref import WeakSet

import aiohttp

from executor.agents.factory import CLAUDE_CODE, AgentFactory
from executor.delivery.run_rows import RunRecord
from executor.delivery.session_rows import SessionRecord
from executor.delivery.state import StateStore
from executor.tasks.agent_rules import AgentRules
from executor.tasks.containers.client import ContainerClient, Unreachable
from executor.tasks.containers.held import PATIENCE_S, HeldContainer, Pool, Wanted
from executor.tasks.containers.relayed import Relayed
from executor.tasks.containers.request import container_request
from executor.tasks.containers.run import ContainerRun, Prepared
from executor.tasks.questions import UserInput
from executor.tasks.run_handler import Run
from shared.containers.errors import ContainerError, EngineUnavailable
from shared.containers.pool import Endpoint
from shared.errors import Refusal, RunError
from shared.logging import get_logger
from shared.protocol import wire_json
from shared.protocol.events import RunKey
from shared.protocol.execution import ExecutionRequest
from shared.status import ErrorCode

logger = get_logger("container")

MOVED = (
    "this session has run outside of a container until now, where its conversation stays: it "
    "begins anew in the same folder"
)

LOOK_S: Final = 3.0
"""How long a start waits for an executor in a container to say how its run stands. It answers
within milliseconds; one that does not is waited for by its own run alone."""


@dataclass(frozen=True, slots=True)
class Images:
    """From what containers are made."""

    default: str
    allowed: frozenset[str] = frozenset()
    """What else requests may name."""

    def check(self, wanted: str | None) -> None:
        """Refuse an image that the operator has not listed.

        Raises:
            Refusal: ``invalid_request``.
        """
        if wanted is not None and wanted != self.default and wanted not in self.allowed:
            raise Refusal(
                ErrorCode.INVALID_REQUEST,
                "executor_image: this executor does not run this image",
                hint="its operator lists the images that requests may name in LOCAL_ALLOWED_IMAGES",
            )


class ContainerRunHandler:
    """Runs agents in containers; see :class:`executor.tasks.run_handler.RunHandler`."""

    def __init__(
        self,
        *,
        pool: Pool,
        agents: AgentFactory,
        images: Images,
        rules: AgentRules,
        state: StateStore,
        workspace_root: Path,
        user_input: UserInput,
        stall_timeout_s: float,
        backend_url: str | None,
        patience_s: float = PATIENCE_S,
        look_s: float = LOOK_S,
    ) -> None:
        """Take the parts; whoever built them closes them.

        Args:
            pool: Has the containers.
            agents: The kinds of agent, by the names that requests give them.
            images: What containers are made from.
            rules: What the operator allows.
            state: Remembers where sessions live.
            workspace_root: Holds the directory of each session, its container's only mount.
            user_input: How users are asked, and how long a run may take.
            stall_timeout_s: How long a run that names no limit of its own may show no sign of
                life.
            backend_url: See :func:`executor.tasks.containers.request.container_request`.
            patience_s: See :data:`executor.tasks.containers.held.PATIENCE_S`.
            look_s: See :data:`LOOK_S`.
        """
        self.user_input = user_input
        self._pool = pool
        self._agents = agents
        self._images = images
        self._rules = rules
        self._state = state
        self._workspace_root = workspace_root
        self._stall_timeout_s = stall_timeout_s
        self._backend_url = backend_url
        self._patience_s = patience_s
        self._look_s = look_s
        self._http: aiohttp.ClientSession | None = None
        self._runs: WeakSet[ContainerRun] = WeakSet()
        """Those in progress; also ended ones, as long as somebody holds them."""
        self._left: dict[RunKey, RunRecord] = {}
        """Runs of an earlier process that were told from a container, and did not go on alone."""
        self._keep = True

    def check(self, request: ExecutionRequest) -> None:
        """Refuse agents that the images do not carry, and images that are not allowed."""
        name, _ = self._agents.resolve(request.requested_agent)
        if name != CLAUDE_CODE:
            raise Refusal(
                ErrorCode.UNSUPPORTED_AGENT,
                f"the agent {name!r} does not run in containers",
                hint=f"they carry {CLAUDE_CODE}; ask for another isolation if the operator of "
                "this executor allows one",
            )
        self._images.check(request.executor_image)

    def start(self, request: ExecutionRequest) -> Run:
        """Prepare a run; nothing is done before its events are asked for."""
        left = self._left.pop(request.run.key, None)
        wanted = Wanted(
            request.run,
            self._session_dir(request.task_id),
            user_id=request.user.user_name or "",
            mode=request.container_mode or "ephemeral",
            image=request.executor_image,
        )
        return self._add(
            ContainerRun(
                request.run,
                self._holding(wanted),
                self._relayed(left, wanted),
                functools.partial(self._prepare, request),
            )
        )

    async def take_up(
        self, records: Collection[RunRecord], living: Mapping[str, Endpoint]
    ) -> dict[RunKey, Run]:
        """The runs of an earlier process that have gone on in their containers.

        To be called before one of these is started; what could not be taken up can be started
        again, and then continues where it was left. Its container is removed: nobody would end
        what goes on in there. One that only does not answer at this moment is taken up: its run
        waits for it, and none of the others does.

        Args:
            records: The unfinished runs.
            living: By run id, the containers of some of them that live.
        """
        runs: dict[RunKey, Run] = {}
        endpoints = [living.get(str(record.run.subtask_id)) for record in records]
        goes_on = await asyncio.gather(*map(self._goes_on, endpoints, records))
        for record, endpoint, may_go_on in zip(records, endpoints, goes_on, strict=True):
            if may_go_on:
                wanted = Wanted(record.run, self._session_dir(record.run.task_id))
                held, relayed = self._holding(wanted, endpoint), self._relayed(record, wanted)
                runs[record.run.key] = self._add(ContainerRun(record.run, held, relayed, None))
                self._left.pop(record.run.key, None)
                continue
            if record.origin is not None:
                self._left[record.run.key] = record
            if endpoint is not None:
                await self.leave(record.run.key, endpoint)
        return runs

    async def leave(self, key: RunKey, endpoint: Endpoint) -> None:
        """Give a container back that a run of an earlier process holds, and nobody follows."""
        await self._pool.release(endpoint.container_id, run_id=key[0], keep=False)

    async def close_session(self, task_id: int | str) -> None:
        """Remove the session's container; one with a run in progress goes with that."""
        in_progress = False
        for run in self._runs:
            if run.session == str(task_id) and run.in_progress:
                run.keep, in_progress = False, True
        if in_progress:
            return
        try:
            await self._pool.remove_session(str(task_id))
        except ContainerError as exc:
            logger.warning("the session's container could not be removed: %s", exc)

    def wind_down(self) -> None:
        """Keep no container from now on; idle ones end with the pool."""
        self._keep = False
        for run in self._runs:
            run.keep = False

    async def close(self) -> None:
        """Close the connections; the containers are the pool's to end."""
        self.wind_down()
        if self._http is not None:
            await self._http.close()
            self._http = None

    def _add(self, run: ContainerRun) -> ContainerRun:
        run.keep = self._keep
        self._runs.add(run)
        return run

    def _session_dir(self, task_id: int | str) -> Path:
        return self._workspace_root / str(task_id)

    def _connect(self, endpoint: Endpoint) -> ContainerClient:
        if self._http is None:
            self._http = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),  # each run holds one for its events
                json_serialize=wire_json.dumps,
            )
        return ContainerClient(self._http, endpoint.executor_url, endpoint.token.get_secret_value())

    def _holding(self, wanted: Wanted, endpoint: Endpoint | None = None) -> HeldContainer:
        return HeldContainer(
            wanted, self._pool, self._connect, endpoint=endpoint, patience_s=self._patience_s
        )

    def _relayed(self, record: RunRecord | None, wanted: Wanted) -> Relayed:
        if record is None:
            return Relayed(wanted.session_dir)
        return Relayed(wanted.session_dir, record.origin or 0, record.open_questions)

    async def _goes_on(self, endpoint: Endpoint | None, record: RunRecord) -> bool:
        """Whether the run goes on there, as far as that can be told at once."""
        if endpoint is None:
            return False
        names = {"subtask_id": record.run.subtask_id}
        try:
            async with asyncio.timeout(self._look_s):
                # The disk may have been full when the executor died.
                await self._pool.unpause(endpoint.container_id)
                standing = await self._connect(endpoint).standing(str(record.run.subtask_id))
        except (EngineUnavailable, Unreachable, TimeoutError):
            logger.warning("the container of a run does not answer: waiting for it", **names)
            return True
        except (ContainerError, RunError) as exc:
            logger.warning("a container is not taken up again: %s", exc, **names)
            return False
        goes_on = standing is not None and standing.carries_out(record.run.attempt)
        if goes_on:
            logger.info("the run goes on in its container", **names)
        return goes_on

    async def _prepare(self, request: ExecutionRequest) -> Prepared:
        payload: dict[str, Any] = container_request(
            request,
            rules=self._rules,
            user_input=self.user_input,
            stall_timeout_s=self._stall_timeout_s,
            backend_url=self._backend_url,
        )
        known = await self._state.session(request.task_id)
        moved = known is not None and not known.in_container
        if moved:
            payload["new_session"] = True
            payload.pop("sdk_session_id", None)
        name, _ = self._agents.resolve(request.requested_agent)
        record = SessionRecord(
            str(request.task_id), name, None, self._session_dir(request.task_id), None, True
        )
        return Prepared(
            payload,
            warnings=(MOVED,) if moved else (),
            accepted=functools.partial(self._state.save_session, record),
        )
