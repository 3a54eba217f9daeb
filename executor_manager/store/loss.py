"""What becomes of a run whose node is gone or has forgotten it: ``on_node_loss`` decides."""

from __future__ import annotations

from typing import Final

from sqlalchemy import select, update

from executor_manager.store.database import Transaction
from executor_manager.store.log import append_own, end_attempt
from executor_manager.store.tables import runs, sessions
from executor_manager.store.verdicts import cancelled_data, failed_data
from shared.protocol.events import EventType
from shared.status import ErrorCode, RunState

MAX_ATTEMPTS: Final = 3
"""How often a run is begun at most. Each loss may be the run's own doing: one that takes its node
down with it must not take down one after the other."""


async def lose(transaction: Transaction, run_id: str, why: str, *, another_node: bool) -> None:
    """End the run's attempt: requeue it when its request says so, otherwise fail it as ``lost``.

    A run whose cancel was asked for is cancelled; one that was begun :data:`MAX_ATTEMPTS` times
    fails.

    Args:
        why: A sentence for the log.
        another_node: Let the session move; its workspace and conversation stay behind.
    """
    row = (
        await transaction.connection.execute(
            select(
                runs.c.state,
                runs.c.attempt,
                runs.c.session_id,
                runs.c.on_node_loss,
                runs.c.cancel_reason,
            ).where(runs.c.id == run_id)
        )
    ).one()
    if row.state == RunState.CANCELLING:
        await append_own(
            transaction, run_id, EventType.CANCELLED, cancelled_data(row.cancel_reason)
        )
    elif row.on_node_loss == "requeue" and row.attempt < MAX_ATTEMPTS:
        await end_attempt(transaction, run_id, why)
        await append_own(
            transaction,
            run_id,
            EventType.WARNING,
            {"message": f"{why}; it runs again as attempt {row.attempt + 1}"},
        )
        await begin_again(transaction, run_id)
        if another_node:
            await transaction.connection.execute(
                update(sessions).where(sessions.c.id == row.session_id).values(node_id=None)
            )
    else:
        if row.on_node_loss == "requeue":
            why = f"{why}; this was attempt {row.attempt}, and there are no more"
        await append_own(
            transaction, run_id, EventType.FAILED, failed_data(why, ErrorCode.LOST.value)
        )


async def begin_again(transaction: Transaction, run_id: str) -> None:
    """Put a live run back into the queue, as a new attempt that no node has a say in."""
    await transaction.connection.execute(
        update(runs)
        .where(runs.c.id == run_id)
        .values(
            state=RunState.QUEUED.value,
            attempt=runs.c.attempt + 1,
            node_id=None,
            lease_owner=None,
            lease_expiry=None,
            unreachable=False,
            dispatch_due=False,
            accepted=False,
            last_seq=0,
        )
    )
    transaction.run_changed(run_id)
    transaction.queue_changed()
