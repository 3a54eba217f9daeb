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
from shared.status import RunState


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


async def standings_of(
    transaction: Transaction, node_id: str, reported: Sequence[ReportedRun]
) -> list[Standing]:
    """What the node has to know of each of these runs, in their order."""
    rows = await transaction.connection.execute(
        select(runs.c.id, runs.c.attempt, runs.c.lease_owner, runs.c.last_seq, runs.c.state).where(
            runs.c.id.in_([run.run_id for run in reported])
        )
    )
    known = {row.id: row for row in rows}

    def standing(run: ReportedRun) -> Standing:
        row = known.get(run.run_id)
        if row is None:
            return Standing(unknown=True)
        if (row.lease_owner, row.attempt) != (node_id, run.attempt):
            return Standing(superseded=True)
        if RunState(row.state).terminal and run.last_seq > row.last_seq:
            return Standing(superseded=True)
        return Standing(seq=row.last_seq)

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
