"""Nodes: register, beat, read. Each registration settles what the node and we think of its runs."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import insert, or_, select, update

from executor_manager.store.database import DATABASE_NOW, Database, Transaction
from executor_manager.store.loss import begin_again, lose
from executor_manager.store.queue import LIVE_ON_NODE, LIVE_RUNS_OF_NODE, release_session
from executor_manager.store.records import AbsentNode, NodeRecord, NodeStatus
from executor_manager.store.standings import (
    ReportedRun,
    Standing,
    lose_absent,
    standings_of,
    take_up,
)
from executor_manager.store.tables import nodes, runs, sessions
from shared.protocol.events import RunKey
from shared.status import RunState

_NOT_SHOWN: Final = {"lease_expiry", "busy_until"}


@dataclass(frozen=True, slots=True)
class NodeHello:
    """What a node says of itself when it registers."""

    id: str
    capacity: int
    name: str = ""
    hostname: str = ""
    platform: str = ""
    arch: str = ""
    version: str = ""
    workspace_root: str = ""
    capabilities: Sequence[str] = ()
    isolation: Sequence[str] = ()
    kind: str = "local"


@dataclass(frozen=True, slots=True)
class Registration:
    """The outcome of a register."""

    incarnation: int
    standings: list[Standing]
    """One for each reported run, in their order."""


@dataclass(frozen=True, slots=True)
class Farewell:
    """What becomes of a node's runs when it says goodbye; ids of runs."""

    unreachable: list[str]
    """They wait for the node to come back."""
    lost: list[str]
    """They were failed, requeued or, when a cancel was pending, cancelled."""
    returned: list[str]
    """They never arrived at the node, and wait for another one."""


class Nodes:
    """The nodes that have ever registered."""

    def __init__(self, database: Database, lease_seconds: float) -> None:
        self._database = database
        self._lease_seconds = lease_seconds

    async def register(self, hello: NodeHello, reported: Sequence[ReportedRun]) -> Registration:
        """Make the node known and online, and settle every run it has or should have.

        Runs that it has keep their lease, runs that need it are due to be dispatched again, and
        runs that it had accepted but does not report are lost.
        """
        async with self._database.write() as transaction:
            incarnation = await self._upsert(transaction, hello)
            standings = await standings_of(transaction, hello.id, reported)
            kept = [
                run
                for run, standing in zip(reported, standings, strict=True)
                if not (standing.unknown or standing.superseded)
            ]
            await self._renew(transaction, hello.id, ((r.run_id, r.attempt) for r in kept))
            await take_up(transaction, hello.id, kept)
            await lose_absent(transaction, hello.id, {run.run_id for run in kept})
            transaction.queue_changed()
        return Registration(incarnation, standings)

    async def heartbeat(
        self, node_id: str, listed: Sequence[RunKey], *, draining: bool, free_slots: int
    ) -> list[RunKey]:
        """Renew the leases of the node and of the runs it lists.

        Returns:
            Those of *listed* in which the node has no say any more.
        """
        async with self._database.write() as transaction:
            values: dict[str, Any] = {
                "status": (NodeStatus.DRAINING if draining else NodeStatus.ONLINE).value,
                "last_heartbeat": DATABASE_NOW,
                "lease_expiry": DATABASE_NOW + self._lease_seconds,
            }
            if free_slots > 0:
                values["busy_until"] = 0
                transaction.queue_changed()
            await transaction.connection.execute(
                update(nodes).where(nodes.c.id == node_id).values(values)
            )
            await self._renew(transaction, node_id, listed)
            owned = await transaction.connection.execute(
                select(runs.c.id, runs.c.attempt).where(
                    runs.c.lease_owner == node_id, runs.c.id.in_([run_id for run_id, _ in listed])
                )
            )
            has_a_say = {(row.id, row.attempt) for row in owned}
        return [key for key in listed if key not in has_a_say]

    async def unregister(self, node_id: str, left: Collection[RunKey]) -> Farewell:
        """Record a clean goodbye: the node is offline, and so are the runs that it leaves.

        Args:
            left: What it has begun or accepted and not finished. Of its other runs it may have a
                verdict that it could not tell yet: their leases go on until they end.
        """
        farewell = Farewell([], [], [])
        async with self._database.write() as transaction:
            connection = transaction.connection
            await connection.execute(
                update(nodes)
                .where(nodes.c.id == node_id)
                .values(status=NodeStatus.OFFLINE.value, lease_expiry=DATABASE_NOW)
            )
            held = await connection.execute(
                select(
                    runs.c.id,
                    runs.c.session_id,
                    runs.c.attempt,
                    runs.c.state,
                    runs.c.accepted,
                    runs.c.on_node_loss,
                ).where(runs.c.lease_owner == node_id, runs.c.state.in_(LIVE_ON_NODE))
            )
            for run in held.all():
                if (run.id, run.attempt) not in left:
                    if run.state == RunState.CLAIMED and not run.accepted:
                        # It never arrived. Should it have, the new attempt keeps both apart.
                        await begin_again(transaction, run.id)
                        await release_session(transaction, run.session_id, node_id)
                        farewell.returned.append(run.id)
                elif run.on_node_loss == "wait" and run.state != RunState.CANCELLING:
                    await connection.execute(
                        update(runs)
                        .where(runs.c.id == run.id)
                        .values(unreachable=True, accepted=True, lease_expiry=DATABASE_NOW)
                    )
                    transaction.run_changed(run.id)
                    farewell.unreachable.append(run.id)
                else:
                    why = f"executor {node_id} has stopped before the end of the run"
                    await lose(transaction, run.id, why, another_node=True)
                    farewell.lost.append(run.id)
        return farewell

    async def all(self) -> list[NodeRecord]:
        """Every node, by name and id."""
        columns = [column for column in nodes.c if column.name not in _NOT_SHOWN]
        query = select(*columns, LIVE_RUNS_OF_NODE.label("live_runs")).order_by(
            nodes.c.name, nodes.c.id
        )
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).mappings().all()
        return [NodeRecord(**{**row, "status": NodeStatus(row["status"])}) for row in rows]

    async def awaited_by(self, run_ids: Collection[str]) -> dict[str, AbsentNode]:
        """Which of these runs can only go on once the node of their session is back."""
        query = (
            select(runs.c.id.label("run_id"), nodes.c.id, nodes.c.status, nodes.c.last_heartbeat)
            .join(sessions, sessions.c.id == runs.c.session_id)
            .join(nodes, nodes.c.id == sessions.c.node_id)
            .where(
                runs.c.id.in_(list(run_ids)),
                or_(runs.c.state == RunState.QUEUED.value, runs.c.unreachable),
                nodes.c.status != NodeStatus.ONLINE.value,
            )
        )
        async with self._database.read() as connection:
            return {
                row.run_id: AbsentNode(row.id, NodeStatus(row.status), row.last_heartbeat)
                for row in await connection.execute(query)
            }

    async def _upsert(self, transaction: Transaction, hello: NodeHello) -> int:
        values: dict[str, Any] = {
            "kind": hello.kind,
            "name": hello.name,
            "hostname": hello.hostname,
            "platform": hello.platform,
            "arch": hello.arch,
            "version": hello.version,
            "workspace_root": hello.workspace_root,
            "capabilities": list(hello.capabilities),
            "isolation": list(hello.isolation),
            "capacity": hello.capacity,
            "status": NodeStatus.ONLINE.value,
            "last_heartbeat": DATABASE_NOW,
            "lease_expiry": DATABASE_NOW + self._lease_seconds,
            "busy_until": 0,
            "registered_at": DATABASE_NOW,
        }
        connection = transaction.connection
        incarnation: int | None = (
            await connection.execute(
                update(nodes)
                .where(nodes.c.id == hello.id)
                .values(**values, incarnation=nodes.c.incarnation + 1)
                .returning(nodes.c.incarnation)
            )
        ).scalar_one_or_none()
        if incarnation is None:
            incarnation = 1
            await connection.execute(insert(nodes).values(id=hello.id, incarnation=1, **values))
        return incarnation

    async def _renew(self, transaction: Transaction, node_id: str, keys: Iterable[RunKey]) -> None:
        wanted = set(keys)
        held = (
            await transaction.connection.execute(
                select(runs.c.id, runs.c.attempt, runs.c.unreachable).where(
                    runs.c.lease_owner == node_id, runs.c.state.in_(LIVE_ON_NODE)
                )
            )
        ).all()
        renewed = [row for row in held if (row.id, row.attempt) in wanted]
        await transaction.connection.execute(
            update(runs)
            .where(runs.c.id.in_([row.id for row in renewed]))
            .values(lease_expiry=DATABASE_NOW + self._lease_seconds, unreachable=False)
        )
        transaction.run_changed(*(row.id for row in renewed if row.unreachable))
