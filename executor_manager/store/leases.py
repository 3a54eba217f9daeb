"""The end of leases: nodes go offline, their runs become unreachable and, in the end, lost."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import and_, or_, select, update

from executor_manager.store.database import Database, Transaction
from executor_manager.store.loss import lose
from executor_manager.store.queue import LIVE_ON_NODE
from executor_manager.store.records import NodeStatus
from executor_manager.store.tables import nodes, runs
from shared.status import RunState


@dataclass(frozen=True, slots=True)
class Expired:
    """What one look at the leases has ended."""

    offline: list[str]
    """Ids of nodes."""
    unreachable: list[str]
    """Ids of runs that wait for their node to come back."""
    lost: list[str]
    """Ids of runs that were failed, requeued or, when a cancel was pending, cancelled."""


class Leases:
    """Ends what was not renewed."""

    def __init__(self, database: Database, lease_seconds: float, lost_after_seconds: float) -> None:
        self._database = database
        self._lease_seconds = lease_seconds
        self._lost_after_seconds = lost_after_seconds

    async def now(self) -> float:
        """Seconds since the epoch by the clock that leases go by."""
        return await self._database.now()

    async def expire(self, now: float) -> Expired:
        """End every lease whose time was over at *now*.

        Give a :meth:`now` that was read before: a heartbeat that waits behind this, because the
        disk is slow, has come in time.
        """
        async with self._database.write() as transaction:
            connection = transaction.connection
            await self._undo_a_step_back_of_the_clock(transaction, now)
            offline = (
                (
                    await connection.execute(
                        update(nodes)
                        .where(
                            nodes.c.status != NodeStatus.OFFLINE.value, nodes.c.lease_expiry <= now
                        )
                        .values(status=NodeStatus.OFFLINE.value)
                        .returning(nodes.c.id)
                    )
                )
                .scalars()
                .all()
            )
            ended = and_(runs.c.state.in_(LIVE_ON_NODE), runs.c.lease_expiry <= now)
            unreachable = (
                (
                    await connection.execute(
                        update(runs)
                        .where(
                            ended,
                            runs.c.unreachable.is_(False),
                            runs.c.on_node_loss == "wait",
                            runs.c.state != RunState.CANCELLING.value,
                        )
                        .values(unreachable=True)
                        .returning(runs.c.id)
                    )
                )
                .scalars()
                .all()
            )
            lost = (
                await connection.execute(
                    select(runs.c.id, runs.c.node_id).where(
                        ended,
                        or_(
                            runs.c.on_node_loss != "wait",
                            # Nobody waits for its result any more, and it keeps its session busy.
                            runs.c.state == RunState.CANCELLING.value,
                            runs.c.lease_expiry <= now - self._lost_after_seconds,
                        ),
                    )
                )
            ).all()
            for run in lost:
                await lose(
                    transaction,
                    run.id,
                    f"nothing was heard from executor {run.node_id} for too long",
                    another_node=True,
                )
            transaction.run_changed(*unreachable)
        return Expired(list(offline), list(unreachable), [run.id for run in lost])

    async def _undo_a_step_back_of_the_clock(self, transaction: Transaction, now: float) -> None:
        """No lease is longer than a lease: what ends later was granted before the clock went back,
        and would keep a dead node alive for as long as it went.
        """
        # Ours is a little older than the one that granted the newest leases.
        latest = now + 2 * self._lease_seconds
        for table in (nodes, runs):
            await transaction.connection.execute(
                update(table)
                .where(table.c.lease_expiry > latest)
                .values(lease_expiry=now + self._lease_seconds)
            )
