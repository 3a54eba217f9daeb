"""A store on a real file, and the few steps that most tests begin with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.fernet import Fernet

from executor_manager.store import log
from executor_manager.store.nodes import NodeHello
from executor_manager.store.records import Committed, Errand, NewEvent, RunRecord, Superseded
from executor_manager.store.store import Store
from executor_manager.streams.hub import Hub

KEY = Fernet.generate_key()


@dataclass
class Bench:
    """A store with what tests do to it."""

    store: Store
    hub: Hub
    path: Path

    async def node(self, node_id: str = "n", capacity: int = 10) -> None:
        """A node that has just registered with nothing."""
        await self.store.nodes.register(NodeHello(node_id, capacity), [])

    async def queued(self, **fields: Any) -> RunRecord:
        """A run in the queue."""
        given: dict[str, Any] = {"user_id": "u", "request": {"prompt": "hi"}, "secrets": {}}
        return await self.store.runs.create(**given | fields)

    async def claim(self, *node_ids: str) -> Errand:
        """The next claim for these nodes, which must succeed."""
        errand = await self.store.queue.claim(node_ids or ["n"])
        assert errand is not None
        return errand

    async def running(self, **fields: Any) -> Errand:
        """A run that node ``n`` has accepted and begun."""
        await self.node()
        await self.queued(**fields)
        errand = await self.claim()
        await self.store.queue.accepted(errand)
        await self.tell(errand, event(1, "lifecycle.started"))
        return errand

    async def cancel(self, run_id: str, *, known: bool) -> None:
        """Cancel a run on node ``n``, which is told and answers that it knows it, or not."""
        await self.store.runs.cancel(run_id)
        [errand] = await self.store.queue.errands(["n"])
        await self.store.queue.cancel_answered(errand, known=known)

    async def tell(self, errand: Errand, *events: NewEvent) -> Committed | Superseded:
        """What the node of *errand* tells of its run."""
        return await self.store.events.append(errand.node_id, errand.run_id, errand.attempt, events)

    async def run(self, run_id: str) -> RunRecord:
        """A run that exists."""
        run = await self.store.runs.get(run_id)
        assert run is not None
        return run

    async def log(self, run_id: str) -> list[tuple[int, int | None, str]]:
        """Sequence, seq and type of every event of a run."""
        events = await self.store.events.after(run_id, 0, 10_000)
        return [(event.sequence, event.seq, event.type) for event in events]


def event(seq: int, type_: str = "llm.reasoning", /, **data: Any) -> NewEvent:
    """An event as a node numbered it."""
    return NewEvent(seq, type_, data, "2026-01-01T00:00:00.000Z")


async def secrets_of(store: Store, run_id: str) -> dict[str, Any]:
    """The secrets of a run that exists, in the clear."""
    found = await store.runs.with_request(run_id)
    assert found is not None
    return found.secrets()


async def append_own(store: Store, run_id: str, type_: str, data: dict[str, Any]) -> bool:
    """Add an event of the control plane itself, as the store's parts do in their transactions."""
    async with store.events._database.write() as transaction:
        return await log.append_own(transaction, run_id, type_, data)


def open_store(directory: Path, hub: Hub | None = None) -> Any:
    """The store in *directory*, with a lease of 30 s and runs lost after 1,000 s."""
    url = f"sqlite+aiosqlite:///{directory / 'manager.db'}"
    return Store.open(url, KEY, hub or Hub(), lease_seconds=30, lost_after_seconds=1000)
