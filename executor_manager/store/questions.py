"""Questions that agents ask and users answer.

An answer is kept, encrypted, until the node has it; so it outlives this process and any outage.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from executor_manager.store.asked import EXPIRED
from executor_manager.store.database import Database
from executor_manager.store.queue import LIVE_ON_NODE
from executor_manager.store.records import Answer, Errand, OpenQuestion
from executor_manager.store.tables import events, questions, runs
from executor_manager.store.vault import Vault
from shared.errors import ProtocolError, WegentError
from shared.protocol.answers import DECISIONS, read_answers
from shared.status import RunState


class NotWaiting(WegentError):
    """The run has ended, or is about to: nobody waits for an answer."""

    code = "not_waiting"


class UnknownQuestion(WegentError):
    """The run has not asked this."""

    code = "unknown_request"


class QuestionExpired(WegentError):
    """The agent has gone on without an answer."""

    code = "expired"


class AlreadyAnswered(WegentError):
    """Another answer was given before; the first one counts."""

    code = "already_answered"


Delivery = Literal["accepted", "pending"]
"""Whether the node has the answer, or will be told."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """A run and its question; all but the state is ``None`` when it has not asked it."""

    state: str
    request_id: str | None
    outcome: str | None
    fingerprint: str | None
    delivered: bool | None
    data: Mapping[str, Any] | None
    """Of the event that asks."""


class Questions:
    """The questions of all runs."""

    def __init__(self, database: Database, vault: Vault) -> None:
        self._database = database
        self._vault = vault

    async def open_of(self, run_ids: Collection[str]) -> dict[str, list[OpenQuestion]]:
        """What these runs wait for, in the order in which it was asked; runs that wait for nothing
        are absent.
        """
        query = (
            select(
                questions.c.run_id,
                questions.c.request_id,
                questions.c.fingerprint,
                events.c.timestamp,
                events.c.data,
            )
            .join(runs, runs.c.id == questions.c.run_id)
            .join(
                events,
                (events.c.run_id == questions.c.run_id)
                & (events.c.sequence == questions.c.sequence),
            )
            .where(
                questions.c.run_id.in_(list(run_ids)),
                questions.c.outcome.is_(None),
                runs.c.state != RunState.CANCELLING.value,
            )
            .order_by(questions.c.sequence)
        )
        found: dict[str, list[OpenQuestion]] = defaultdict(list)
        async with self._database.read() as connection:
            for row in await connection.execute(query):
                answered = row.fingerprint is not None
                question = OpenQuestion(row.request_id, answered, row.timestamp, row.data)
                found[row.run_id].append(question)
        return dict(found)

    async def answer(self, run_id: str, request_id: str, answer: Answer) -> Delivery:
        """Keep the user's answer to a question of a run that exists; its node is told.

        The first answer counts; repeating it changes nothing.

        Raises:
            NotWaiting: The run has ended, or a cancel was asked for.
            UnknownQuestion: The run has asked nothing of this id.
            QuestionExpired: The agent has gone on without an answer.
            AlreadyAnswered: Another answer was given before.
            ProtocolError: It does not answer this question; names the fields at fault.
        """
        content = _content(answer)
        fingerprint = self._vault.fingerprint(content)
        async with self._database.write() as transaction:
            row = await _read(transaction.connection, run_id, request_id)
            delivery = _judge(row, fingerprint)
            if delivery is not None:
                return delivery
            _check(row.data or {}, answer)
            await transaction.connection.execute(
                update(questions)
                .where(questions.c.run_id == run_id, questions.c.request_id == request_id)
                .values(answer=self._vault.seal(content), fingerprint=fingerprint)
            )
            transaction.run_changed(run_id)
            transaction.queue_changed()
        return "pending"

    async def delivery(self, run_id: str, request_id: str, answer: Answer) -> Delivery:
        """How far an answer is that was given before; raises as :meth:`answer` does.

        It is a :class:`ProtocolError`, too, when the node could not use it.
        """
        async with self._database.read() as connection:
            row = await _read(connection, run_id, request_id)
        delivery = _judge(row, self._vault.fingerprint(_content(answer)))
        if delivery is None:
            raise ProtocolError(
                "the executor cannot use this answer, and the question is still open",
                hint="name questions by their numbers: 1, 2, ...",
            )
        return delivery

    async def to_deliver(self, errand: Errand) -> Answer | None:
        """The answer that this errand brings; ``None`` when it is not wanted any more.

        Raises:
            ConfigError: It was encrypted with another key.
        """
        query = select(questions.c.answer).where(
            questions.c.run_id == errand.run_id, questions.c.request_id == errand.request_id
        )
        async with self._database.read() as connection:
            sealed = (await connection.execute(query)).scalar_one_or_none()
        return None if sealed is None else Answer(**self._vault.open(sealed))

    async def delivered(self, errand: Errand) -> None:
        """Record that the node has taken the answer."""
        await self._settle(errand, answer=None, delivered=True)

    async def expired(self, errand: Errand) -> None:
        """Record that the node does not wait any more; its own event about that is in the log, or
        on the way.
        """
        await self._settle(errand, answer=None, outcome=EXPIRED)

    async def unusable(self, errand: Errand) -> None:
        """Record that the node cannot use the answer: the question is open for another one."""
        await self._settle(errand, answer=None, fingerprint=None)

    async def _settle(self, errand: Errand, **values: object) -> None:
        async with self._database.write() as transaction:
            await transaction.connection.execute(
                update(questions)
                .where(*_asked_by(errand), questions.c.outcome.is_(None))
                .values(values)
            )
            transaction.run_changed(errand.run_id)


def _asked_by(errand: Errand) -> tuple[Any, ...]:
    return (
        questions.c.run_id == errand.run_id,
        questions.c.request_id == errand.request_id,
        questions.c.attempt == errand.attempt,
    )


def _check(asked: Mapping[str, Any], answer: Answer) -> None:
    kind, tool_input = asked.get("kind"), asked.get("tool_input")
    if kind in DECISIONS:  # of another one, a newer node knows
        read_answers(
            str(kind),
            tool_input if isinstance(tool_input, Mapping) else {},
            decision=answer.decision,
            answers=answer.answers,
            message=answer.message,
        )


def _content(answer: Answer) -> Mapping[str, Any]:
    return {
        "decision": answer.decision,
        "answers": answer.answers,
        "message": answer.message,
    }


async def _read(connection: AsyncConnection, run_id: str, request_id: str) -> _Asked:
    query = (
        select(
            runs.c.state,
            questions.c.request_id,
            questions.c.outcome,
            questions.c.fingerprint,
            questions.c.delivered,
            events.c.data,
        )
        .outerjoin(
            questions,
            (questions.c.run_id == runs.c.id) & (questions.c.request_id == request_id),
        )
        .outerjoin(
            events,
            (events.c.run_id == runs.c.id) & (events.c.sequence == questions.c.sequence),
        )
        .where(runs.c.id == run_id)
    )
    return _Asked(*(await connection.execute(query)).one())


def _judge(row: _Asked, fingerprint: str) -> Delivery | None:
    """What becomes of an answer with this fingerprint; ``None``: it is the first one."""
    if row.delivered and row.fingerprint == fingerprint:
        return "accepted"
    if row.state not in LIVE_ON_NODE or row.state == RunState.CANCELLING:
        raise NotWaiting(
            "the task does not wait for an answer, it has ended or is about to",
            hint="send another task into the same session",
        )
    if row.request_id is None:
        raise UnknownQuestion(
            "the task has asked nothing of this request_id",
            hint="GET /api/v1/tasks/{task_id} shows what it waits for",
        )
    if row.outcome == EXPIRED:
        raise QuestionExpired(
            "the agent did not wait any longer and has gone on without an answer",
            hint="GET /api/v1/tasks/{task_id} shows what it waits for now",
        )
    if row.outcome is not None or row.fingerprint not in (None, fingerprint):
        raise AlreadyAnswered("the question was answered before", hint="the first answer counts")
    return None if row.fingerprint is None else "pending"
