"""Which executor is on which connection of this process."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any


@dataclass(eq=False, slots=True)
class Connection:
    """One Socket.IO connection of an executor."""

    sid: str
    node_id: str | None = None
    """Who it is; ``None`` until it has asked to register."""
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    """It is gone, or a newer connection of the same executor has taken its place."""


class Connections:
    """All open connections; an executor has at most one."""

    def __init__(self) -> None:
        self._by_sid: dict[str, Connection] = {}
        self._by_node: dict[str, Connection] = {}
        self._ready: set[Connection] = set()
        self._under_way: dict[str, set[asyncio.Future[Any]]] = {}

    def open(self, sid: str) -> None:
        """A connection was accepted; nobody knows yet whose."""
        self._by_sid[sid] = Connection(sid)

    def get(self, sid: str) -> Connection | None:
        """The connection of this id, unless it is closed."""
        return self._by_sid.get(sid)

    def claim(self, connection: Connection, node_id: str) -> Connection | None:
        """Make *connection* the one of this executor.

        Returns:
            The connection that it replaces, closed now; ``None`` when there is none.
        """
        self._ready.discard(connection)
        if connection.node_id is not None and connection.node_id != node_id:
            self._by_node.pop(connection.node_id, None)
        previous = self._by_node.get(node_id)
        connection.node_id = node_id
        self._by_node[node_id] = connection
        if previous is None or previous is connection:
            return None
        self.close(previous.sid)
        return previous

    def ready(self, connection: Connection) -> None:
        """The executor may be called from now on: it has been told that it is registered."""
        if not connection.closed.is_set():
            self._ready.add(connection)

    def not_ready(self, connection: Connection) -> None:
        """The executor has said goodbye."""
        self._ready.discard(connection)

    def is_ready(self, connection: Connection) -> bool:
        """Whether its executor is registered on it and has not said goodbye."""
        return connection in self._ready

    def replaced(self, connection: Connection) -> bool:
        """Whether its executor is on a newer connection."""
        newest = connection if connection.node_id is None else self._by_node.get(connection.node_id)
        return newest is not None and newest is not connection

    def close(self, sid: str) -> None:
        """The connection is gone; whoever waits for an answer on it is released."""
        connection = self._by_sid.pop(sid, None)
        if connection is None:
            return
        self._ready.discard(connection)
        connection.closed.set()
        if connection.node_id is not None and self._by_node.get(connection.node_id) is connection:
            del self._by_node[connection.node_id]

    def watch(self, node_id: str, future: asyncio.Future[Any]) -> None:
        """Count *future* as part of what this executor has sent and is not committed yet."""
        sent = self._under_way.setdefault(node_id, set())

        def forget(done: asyncio.Future[Any]) -> None:
            sent.discard(done)
            if not sent and self._under_way.get(node_id) is sent:
                del self._under_way[node_id]

        sent.add(future)
        future.add_done_callback(forget)

    async def settled(self, node_id: str) -> None:
        """Wait until what this executor has sent so far is committed or dropped.

        On whichever connection it came, one that has ended meanwhile included.
        """
        if sent := self._under_way.get(node_id):
            await asyncio.wait(set(sent))

    def of_node(self, node_id: str) -> Connection | None:
        """The connection on which this executor can be called now."""
        connection = self._by_node.get(node_id)
        return connection if connection in self._ready else None

    def node_ids(self) -> list[str]:
        """The executors that can be called now."""
        return [connection.node_id for connection in self._ready if connection.node_id is not None]
