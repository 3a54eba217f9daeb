"""The dispatcher: brings queued runs to executors, and tells executors what is due.

Nothing is remembered here but what is under way: what has to be told is in the store and stays
there until it is answered, so repeating is a matter of looking again.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final, NoReturn, Protocol

from executor_manager.request_secrets import merge
from executor_manager.store.records import Errand
from executor_manager.store.store import Store
from shared.errors import ConfigError, LinkLost, ProtocolError
from shared.protocol.execution import read_execution_request
from shared.protocol.local import (
    Cancel,
    CancelAck,
    DispatchAck,
    Failure,
    Input,
    InputAck,
    LocalEvent,
    read_ack,
    to_wire,
)
from shared.redaction import Redactor
from shared.status import ErrorCode, RunState
from shared.web.hub import WakeUp

CALL_TIMEOUT_S: Final = 10.0
"""After this long without an answer an errand is due again; source: the local protocol."""

POLL_S: Final = 2.0
"""How long the dispatcher sleeps when nothing wakes it: the end of a pause wakes nobody."""

logger = logging.getLogger(__name__)


class Executors(Protocol):
    """The executors that are connected to this process."""

    def node_ids(self) -> list[str]:
        """Those that can be called now."""

    async def call(
        self, node_id: str, event: LocalEvent, payload: dict[str, Any], *, timeout_s: float
    ) -> object:
        """The raw answer; raises LinkLost when none came."""


class Dispatcher:
    """Serves the executors of this process until it is cancelled."""

    def __init__(
        self,
        store: Store,
        executors: Executors,
        wake_up: WakeUp,
        redactor: Redactor,
        *,
        call_timeout_s: float = CALL_TIMEOUT_S,
        poll_s: float = POLL_S,
    ) -> None:
        self._store = store
        self._executors = executors
        self._wake_up = wake_up
        self._redactor = redactor
        self._call_timeout_s = call_timeout_s
        self._poll_s = poll_s
        self._under_way: set[Errand] = set()

    async def run(self) -> NoReturn:
        """Look for work whenever woken, and now and then."""
        async with asyncio.TaskGroup() as errands:
            while True:
                try:
                    async with asyncio.timeout(self._poll_s):
                        await self._wake_up.wait()
                except TimeoutError:
                    pass
                try:
                    await self._look(errands)
                except Exception:
                    # A database that fails for a moment must not end all dispatching.
                    logger.exception("the queue could not be read")

    async def _look(self, errands: asyncio.TaskGroup) -> None:
        node_ids = self._executors.node_ids()
        # What is new goes first: somebody waits for it, and it takes nothing from what is repeated.
        while (claimed := await self._store.queue.claim(node_ids)) is not None:
            logger.info("run %s goes to executor %s", claimed.run_id, claimed.node_id)
            self._start(claimed, errands)
        # One that is answered while we read is still due in what we have read.
        under_way = self._under_way.copy()
        for errand in await self._store.queue.errands(node_ids):
            if errand not in under_way:
                self._start(errand, errands)

    def _start(self, errand: Errand, errands: asyncio.TaskGroup) -> None:
        if errand not in self._under_way:
            self._under_way.add(errand)
            errands.create_task(self._do(errand), name=f"{errand.kind} {errand.run_id}")

    async def _do(self, errand: Errand) -> None:
        try:
            match errand.kind:
                case "dispatch":
                    await self._dispatch(errand)
                case "cancel":
                    await self._cancel(errand)
                case "input":
                    await self._input(errand)
        except LinkLost as exc:
            logger.info("%s of run %s stays due: %s", errand.kind, errand.run_id, exc)
        except Exception:
            # It stays due; the other errands go on.
            logger.exception("%s of run %s failed", errand.kind, errand.run_id)
        finally:
            self._under_way.discard(errand)

    async def _dispatch(self, errand: Errand) -> None:
        sealed = await self._store.runs.with_request(errand.run_id)
        if sealed is None:
            return
        run = sealed.run
        if run.state not in (RunState.CLAIMED, RunState.RUNNING) or (
            run.lease_owner,
            run.attempt,
        ) != (errand.node_id, errand.attempt):
            return  # cancelled, lost or taken away meanwhile
        try:
            secrets = sealed.secrets()
        except ConfigError as exc:
            await self._store.queue.refused(errand, ErrorCode.INTERNAL, str(exc))
            return
        request = merge(sealed.request, secrets) | {
            "task_id": run.session_id,
            "subtask_id": run.id,
            "attempt": run.attempt,
            "on_node_loss": run.on_node_loss,
        }
        of_request = _secrets_of(request)
        self._redactor.add_many(of_request)
        raw = await self._executors.call(
            errand.node_id, LocalEvent.DISPATCH, request, timeout_s=self._call_timeout_s
        )
        ack = read_ack(DispatchAck, raw)
        if raw is None:
            logger.warning("executor %s acknowledged a dispatch without a word", errand.node_id)
        elif ack is None:
            # Asking again would get the same answer, for ever.
            failure = read_ack(Failure, raw)
            why = "the answer to the dispatch was unusable"
            if failure is not None:
                why = self._masked(failure.error, of_request)
            logger.error("executor %s could not take run %s: %s", errand.node_id, run.id, why)
            await self._store.queue.refused(
                errand, ErrorCode.INTERNAL, f"the executor could not take the run: {why}"
            )
        elif ack.accepted:
            await self._store.queue.accepted(errand)
        else:
            code = ack.code or ErrorCode.INTERNAL.value
            logger.info("executor %s refused run %s: %s", errand.node_id, run.id, code)
            error = ack.error or "the executor refused the run without a reason"
            await self._store.queue.refused(
                errand,
                self._masked(code, of_request),
                self._masked(error, of_request),
            )

    def _masked(self, told: str, secrets: list[str]) -> str:
        """An executor's words as they may be kept and shown."""
        of_run = self._redactor.open_run(secrets)
        try:
            return of_run.redact(told)
        finally:
            of_run.close()

    async def _cancel(self, errand: Errand) -> None:
        cancel = Cancel(task_id=errand.session_id, subtask_id=errand.run_id, reason=errand.reason)
        raw = await self._executors.call(
            errand.node_id, LocalEvent.CANCEL, to_wire(cancel), timeout_s=self._call_timeout_s
        )
        ack = read_ack(CancelAck, raw)
        if ack is None:
            logger.warning("executor %s answered a cancel with nothing usable", errand.node_id)
        else:
            await self._store.queue.cancel_answered(errand, known=ack.state != "unknown")

    async def _input(self, errand: Errand) -> None:
        questions = self._store.questions
        try:
            answer = await questions.to_deliver(errand)
        except ConfigError as exc:
            logger.error("the answer to run %s is lost: %s", errand.run_id, exc)  # noqa: TRY400
            await questions.expired(errand)
            return
        if answer is None or errand.request_id is None:
            return  # not wanted any more
        told = Input(
            task_id=errand.session_id,
            subtask_id=errand.run_id,
            request_id=errand.request_id,
            decision=answer.decision,
            answers=None if answer.answers is None else dict(answer.answers),
            message=answer.message,
        )
        raw = await self._executors.call(
            errand.node_id, LocalEvent.INPUT, to_wire(told), timeout_s=self._call_timeout_s
        )
        ack = read_ack(InputAck, raw)
        if raw is None:
            logger.warning("executor %s acknowledged an answer without a word", errand.node_id)
        elif ack is not None and ack.success:
            await questions.delivered(errand)
        elif ack is not None and ack.code == "invalid_request":
            logger.warning(
                "executor %s cannot use the answer to run %s", errand.node_id, errand.run_id
            )
            await questions.unusable(errand)
        else:
            if ack is None or ack.code != "expired":
                logger.warning(
                    "executor %s does not know the question that run %s asked",
                    errand.node_id,
                    errand.run_id,
                )
            await questions.expired(errand)


def _secrets_of(request: dict[str, Any]) -> list[str]:
    try:
        return read_execution_request(request).secrets
    except ProtocolError:
        return []  # taken by an earlier version; the executor decides about it
