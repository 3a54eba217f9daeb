"""What a node and we think of its runs, brought together when it registers.

Inside a transaction that the caller owns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select, update

from executor_manager.store.database import Transaction
from executor_manager.store.loss import lose
from executor_manager.store.queue import LIVE_ON_NODE
from executor_manager.store.tables import runs
from shared.protocol.events import RunKey
from shared.status import TERMINAL, RunState


@dataclass(frozen=True, slots=True)
class ReportedRun:
    """One run that a registering node knows."""

    run_id: str
    attempt: int
    last_seq: int
    needs_dispatch: bool
    """It has the run but not the request any more, or waits to be told to go on."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What we know of a reported run; neither flag: committed up to ``seq``."""

    seq: int = 0
    unknown: bool = False
    superseded: bool = False


async def owned_by(
    transaction: Transaction, node_id: str, run_ids: Sequence[str]
) -> dict[RunKey, int]:
    """Which of these runs the node has a say in, and up to which ``seq`` they are committed."""
    rows = await transaction.connection.execute(
        select(runs.c.id, runs.c.attempt, runs.c.last_seq).where(
            runs.c.lease_owner == node_id, runs.c.id.in_(list(run_ids))
        )
    )
    return {(row.id, row.attempt): row.last_seq for row in rows}


async def standings_of(
    transaction: Transaction, node_id: str, reported: Sequence[ReportedRun]
) -> list[Standing]:
    """What the node has to know of each of these runs, in their order."""
    run_ids = [run.run_id for run in reported]
    owned = await owned_by(transaction, node_id, run_ids)
    known = set(
        (
            await transaction.connection.execute(select(runs.c.id).where(runs.c.id.in_(run_ids)))
        ).scalars()
    )
    finished = set(
        (
            await transaction.connection.execute(
                select(runs.c.id).where(
                    runs.c.id.in_(run_ids), runs.c.state.in_([s.value for s in TERMINAL])
                )
            )
        ).scalars()
    )

    def standing(run: ReportedRun) -> Standing:
        if run.run_id not in known:
            return Standing(unknown=True)
        seq = owned.get((run.run_id, run.attempt))
        if seq is None or (run.run_id in finished and run.last_seq > seq):
            return Standing(superseded=True)
        return Standing(seq=seq)

    return [standing(run) for run in reported]


async def take_up(transaction: Transaction, node_id: str, kept: Sequence[ReportedRun]) -> None:
    """Note what the node has accepted, and what it has to be told again about these runs."""

    async def set_where(state: Sequence[str], chosen: list[str], **values: bool) -> None:
        await transaction.connection.execute(
            update(runs)
            .where(runs.c.lease_owner == node_id, runs.c.state.in_(state), runs.c.id.in_(chosen))
            .values(values)
        )

    known = [run.run_id for run in kept]
    waiting = [run.run_id for run in kept if run.needs_dispatch]
    await set_where(LIVE_ON_NODE, known, accepted=True)
    await set_where([RunState.CLAIMED, RunState.RUNNING], waiting, dispatch_due=True)
    # An answered cancel, too: the process that answered may be gone, and its run reattached.
    await set_where([RunState.CANCELLING], known, cancel_due=True)


async def lose_absent(transaction: Transaction, node_id: str, present: set[str]) -> None:
    """End what the node had accepted and does not have any more."""
    held = (
        await transaction.connection.execute(
            select(runs.c.id, runs.c.accepted).where(
                runs.c.lease_owner == node_id, runs.c.state.in_(LIVE_ON_NODE)
            )
        )
    ).all()
    for row in held:
        if row.accepted and row.id not in present:
            await lose(
                transaction,
                row.id,
                f"executor {node_id} came back without this run",
                another_node=False,
            )
