"""The queue: which run goes to which node, and what nodes still have to be told.

All of it is in the database, so a manager that starts anew, or another one, goes on where the
last one stopped.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from sqlalchemy import and_, exists, func, or_, select, update

from executor_manager.store.database import DATABASE_NOW, Database, Transaction
from executor_manager.store.log import append_own, read_heads
from executor_manager.store.records import Errand, NodeStatus
from executor_manager.store.tables import nodes, questions, runs, sessions
from executor_manager.store.verdicts import cancelled_data, failed_data
from shared.protocol.events import EventType
from shared.status import REQUEUEING_REFUSALS, ErrorCode, RunState

LIVE_ON_NODE: Final = (
    RunState.CLAIMED.value,
    RunState.RUNNING.value,
    RunState.CANCELLING.value,
)
"""States in which a run takes a slot of its node, and keeps its session busy."""

BUSY_PAUSE_SECONDS: Final = 2.0
"""How long a node that refused as busy is left alone, unless it tells of free slots before."""

# Made once: to name all columns of a table anew takes longer than the query.
_OTHER: Final = runs.alias()
_SESSION_IS_BUSY: Final = exists().where(
    _OTHER.c.session_id == runs.c.session_id,
    or_(
        _OTHER.c.state.in_(LIVE_ON_NODE),
        and_(_OTHER.c.state == RunState.QUEUED.value, _OTHER.c.ordinal < runs.c.ordinal),
    ),
)
_TAKEN: Final = runs.alias()
LIVE_RUNS_OF_NODE: Final = (
    select(func.count())
    .where(_TAKEN.c.lease_owner == nodes.c.id, _TAKEN.c.state.in_(LIVE_ON_NODE))
    .scalar_subquery()
)
"""How many runs count against the capacity of the statement's node."""


class Queue:
    """Runs that wait for a node, and nodes that wait for word about a run."""

    def __init__(self, database: Database, lease_seconds: float) -> None:
        self._database = database
        self._lease_seconds = lease_seconds

    async def claim(self, node_ids: Collection[str]) -> Errand | None:
        """Give the oldest run of the highest priority that can start now to one of *node_ids*.

        A session's runs go one at a time and in order, and stay on the node where it lives. The
        claim is committed when this returns.

        Returns:
            The dispatch to make, or ``None`` when no run and node fit each other now.
        """
        if not node_ids:
            return None
        async with self._database.write() as transaction:
            connection = transaction.connection
            fit = (
                await connection.execute(
                    select(runs.c.id, runs.c.session_id, runs.c.attempt, nodes.c.id.label("node"))
                    .join(sessions, sessions.c.id == runs.c.session_id)
                    .join(
                        nodes, or_(sessions.c.node_id.is_(None), sessions.c.node_id == nodes.c.id)
                    )
                    .where(
                        runs.c.state == RunState.QUEUED.value,
                        or_(runs.c.scheduled_at.is_(None), runs.c.scheduled_at <= DATABASE_NOW),
                        ~_SESSION_IS_BUSY,
                        nodes.c.id.in_(list(node_ids)),
                        nodes.c.status == NodeStatus.ONLINE.value,
                        nodes.c.busy_until <= DATABASE_NOW,
                        nodes.c.capacity > LIVE_RUNS_OF_NODE,
                    )
                    .order_by(
                        runs.c.priority.desc(),
                        runs.c.ordinal,
                        (nodes.c.capacity - LIVE_RUNS_OF_NODE).desc(),
                    )
                    .limit(1)
                )
            ).one_or_none()
            if fit is None:
                return None
            await connection.execute(
                update(runs)
                .where(runs.c.id == fit.id)
                .values(
                    state=RunState.CLAIMED.value,
                    node_id=fit.node,
                    lease_owner=fit.node,
                    lease_expiry=DATABASE_NOW + self._lease_seconds,
                    dispatch_due=True,
                )
            )
            await connection.execute(
                update(sessions).where(sessions.c.id == fit.session_id).values(node_id=fit.node)
            )
            transaction.run_changed(fit.id)
        return Errand("dispatch", fit.id, fit.session_id, fit.attempt, fit.node)

    async def errands(self, node_ids: Collection[str]) -> list[Errand]:
        """What these nodes still have to be told; each stays due until its answer is recorded."""
        if not node_ids:
            return []
        query = (
            select(
                runs.c.id,
                runs.c.session_id,
                runs.c.attempt,
                runs.c.lease_owner,
                runs.c.cancel_due,
                runs.c.cancel_reason,
            )
            .where(
                runs.c.state.in_(LIVE_ON_NODE),
                runs.c.lease_owner.in_(list(node_ids)),
                or_(runs.c.dispatch_due, runs.c.cancel_due),
            )
            .order_by(runs.c.ordinal)
        )
        answered = (
            select(
                runs.c.id,
                runs.c.session_id,
                runs.c.attempt,
                runs.c.lease_owner,
                questions.c.request_id,
            )
            .join(questions, questions.c.run_id == runs.c.id)
            .where(
                # One that has to be dispatched again is not there to take an answer.
                runs.c.state.in_((RunState.CLAIMED.value, RunState.RUNNING.value)),
                runs.c.dispatch_due.is_(False),
                runs.c.lease_owner.in_(list(node_ids)),
                questions.c.answer.is_not(None),
            )
            .order_by(runs.c.ordinal, questions.c.sequence)
        )
        async with self._database.read() as connection:
            told = [
                Errand(
                    "cancel" if row.cancel_due else "dispatch",
                    row.id,
                    row.session_id,
                    row.attempt,
                    row.lease_owner,
                    row.cancel_reason,
                )
                for row in await connection.execute(query)
            ]
            inputs = [
                Errand(
                    "input",
                    row.id,
                    row.session_id,
                    row.attempt,
                    row.lease_owner,
                    request_id=row.request_id,
                )
                for row in await connection.execute(answered)
            ]
        return told + inputs

    async def accepted(self, errand: Errand) -> None:
        """Record that the node has taken the run."""
        async with self._database.write() as transaction:
            await transaction.connection.execute(
                update(runs)
                .where(
                    runs.c.id == errand.run_id,
                    runs.c.attempt == errand.attempt,
                    runs.c.lease_owner == errand.node_id,
                    runs.c.state.in_(LIVE_ON_NODE),
                )
                .values(dispatch_due=False, accepted=True)
            )

    async def refused(self, errand: Errand, code: str, error: str) -> None:
        """Record that the node did not take the run.

        ``busy`` and ``draining`` lead back to the queue and keep the node out of the next claims;
        anything else is the run's verdict. A run whose cancel was asked for is cancelled. One that
        the node had accepted before, and should only take up again, waits for it.
        """
        async with self._database.write() as transaction:
            head = (await read_heads(transaction, [errand.run_id])).get(errand.run_id)
            if (
                head is None
                or head.state.terminal
                or (head.lease_owner, head.attempt) != (errand.node_id, errand.attempt)
            ):
                return
            if code in REQUEUEING_REFUSALS:
                pause: dict[str, object] = (
                    {"status": NodeStatus.DRAINING.value}
                    if code == ErrorCode.DRAINING
                    else {"busy_until": DATABASE_NOW + BUSY_PAUSE_SECONDS}
                )
                await transaction.connection.execute(
                    update(nodes).where(nodes.c.id == errand.node_id).values(pause)
                )
            if head.state is RunState.CANCELLING:
                await append_own(
                    transaction, errand.run_id, EventType.CANCELLED, cancelled_data(errand.reason)
                )
            elif code in REQUEUEING_REFUSALS and head.accepted:
                pass  # it has begun there: the dispatch stays due
            elif code in REQUEUEING_REFUSALS:
                await transaction.connection.execute(
                    update(runs)
                    .where(runs.c.id == errand.run_id)
                    .values(
                        state=RunState.QUEUED.value,
                        node_id=None,
                        lease_owner=None,
                        lease_expiry=None,
                        unreachable=False,
                        dispatch_due=False,
                    )
                )
                transaction.run_changed(errand.run_id)
                transaction.queue_changed()  # another node may take it at once
            else:
                await append_own(
                    transaction,
                    errand.run_id,
                    EventType.FAILED,
                    failed_data(error, code),
                )
            await release_session(transaction, errand.session_id, errand.node_id)

    async def cancel_answered(self, errand: Errand, *, known: bool) -> None:
        """Record a node's answer to a cancel; a run that it does not know is cancelled here."""
        answered = {"cancel_due": False}
        if known:  # what it knows, it has accepted, even if the answer to the dispatch was lost
            answered["accepted"] = True
        async with self._database.write() as transaction:
            result = await transaction.connection.execute(
                update(runs)
                .where(
                    runs.c.id == errand.run_id,
                    runs.c.attempt == errand.attempt,
                    runs.c.lease_owner == errand.node_id,
                    runs.c.state == RunState.CANCELLING.value,
                )
                .values(answered)
            )
            if result.rowcount == 1 and not known:
                await append_own(
                    transaction, errand.run_id, EventType.CANCELLED, cancelled_data(errand.reason)
                )
                await release_session(transaction, errand.session_id, errand.node_id)


async def release_session(transaction: Transaction, session_id: str, node_id: str) -> None:
    """Let the session go to any node, unless it has ever begun to live on this one."""
    await transaction.connection.execute(
        update(sessions)
        .where(
            sessions.c.id == session_id,
            sessions.c.node_id == node_id,
            ~exists().where(
                runs.c.session_id == session_id,
                runs.c.node_id == node_id,
                runs.c.accepted,
            ),
        )
        .values(node_id=None)
    )
