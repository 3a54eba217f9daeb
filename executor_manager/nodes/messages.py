"""What executors tell: registration, liveness, and what their runs do.

Each method is one message and returns its acknowledgement. Everything up to the first ``await``
happens in the order in which the messages came.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

from executor_manager.nodes.connections import Connection, Connections
from executor_manager.nodes.translate import read_event, unusable
from executor_manager.store.database import StoreError
from executor_manager.store.nodes import NodeHello
from executor_manager.store.records import Superseded
from executor_manager.store.standings import ReportedRun, Standing
from executor_manager.store.store import Store
from shared.errors import ProtocolError
from shared.protocol.local import (
    RUN_EVENTS,
    Failure,
    Feature,
    Heartbeat,
    HeartbeatAck,
    LocalEvent,
    Register,
    RegisterAck,
    RunAck,
    RunName,
    RunReport,
    RunStanding,
    Unregister,
    read,
    to_wire,
)

FEATURES: Final = (Feature.SEQ_ACK, Feature.REDISPATCH, Feature.INPUT)
"""What this backend really does."""

HEARTBEAT_INTERVAL_S: Final = 10.0
HEARTBEAT_TIMEOUT_S: Final = 30.0

logger = logging.getLogger(__name__)

Ack = dict[str, Any]


class Messages:
    """Answers what comes from executors, with the store as the only memory."""

    def __init__(
        self,
        store: Store,
        connections: Connections,
        *,
        heartbeat_interval_s: float = HEARTBEAT_INTERVAL_S,
        heartbeat_timeout_s: float = HEARTBEAT_TIMEOUT_S,
    ) -> None:
        self._store = store
        self._connections = connections
        self._heartbeat_interval_s = heartbeat_interval_s
        self._heartbeat_timeout_s = heartbeat_timeout_s

    async def handle(
        self,
        connection: Connection,
        name: LocalEvent,
        raw: object,
        *,
        hang_up: Callable[[Connection], Awaitable[None]],
    ) -> Ack:
        """Take one message and return its acknowledgement.

        Args:
            hang_up: Ends a connection that this message has replaced.
        """
        try:
            if name is LocalEvent.REGISTER:
                return await self._register(connection, read(Register, raw), hang_up)
            node_id = connection.node_id
            if node_id is None:
                return _failure("not_registered", "register first")
            if name in RUN_EVENTS:
                return await self._run_event(node_id, name, raw)
            if name is LocalEvent.HEARTBEAT:
                return await self._heartbeat(connection, node_id, read(Heartbeat, raw))
            if name is LocalEvent.UNREGISTER:
                return await self._unregister(connection, node_id, read(Unregister, raw))
        except ProtocolError as exc:
            logger.warning("unusable %s from %s: %s", name, connection.node_id, exc)
            return _failure(exc.code, exc.message)
        return _failure("unknown_event", f"{name} is not for a backend")

    async def _register(
        self,
        connection: Connection,
        register: Register,
        hang_up: Callable[[Connection], Awaitable[None]],
    ) -> Ack:
        node_id = register.executor_id
        previous = self._connections.claim(connection, node_id)
        if previous is not None:
            logger.info("executor %s has connected anew, its older connection ends", node_id)
            await hang_up(previous)
        # What it sent before counts, and has to be part of the standings below.
        await self._connections.settled(node_id)
        if connection.closed.is_set():
            # A newer connection may be registered already, with more runs than this one told.
            return _failure("not_registered", "this connection has ended")
        registration = await self._store.nodes.register(
            _hello(register), [_reported(run) for run in register.runs]
        )
        logger.info(
            "executor %s (%s) is registered, incarnation %d, %d runs reported",
            node_id,
            register.name or register.hostname,
            registration.incarnation,
            len(register.runs),
        )
        ack = RegisterAck(
            features=list(FEATURES),
            heartbeat_interval=self._heartbeat_interval_s,
            heartbeat_timeout=self._heartbeat_timeout_s,
            acked=[
                _standing(run, standing)
                for run, standing in zip(register.runs, registration.standings, strict=True)
            ],
        )
        return to_wire(ack)

    async def _run_event(self, node_id: str, name: LocalEvent, raw: object) -> Ack:
        error: ProtocolError | None = None
        try:
            place, event = read_event(name, raw)
        except ProtocolError as exc:
            error = exc
            try:
                place, event = unusable(name, raw, exc)
            except ProtocolError:
                logger.warning("unusable %s from %s: %s", name, node_id, exc)
                return _failure("invalid", exc.message)
            logger.warning(
                "unusable %s from %s for run %s: %s", name, node_id, place.subtask_id, exc
            )
        appended = self._store.events.append(node_id, str(place.subtask_id), place.attempt, [event])
        self._connections.watch(node_id, appended)
        try:
            result = await appended
        except StoreError as exc:
            return _failure(exc.code, exc.message)
        if isinstance(result, Superseded):
            return to_wire(RunAck(success=False, code="superseded"))
        if error is not None and result.acked >= place.seq:
            return to_wire(
                RunAck(success=False, code="invalid", acked=result.acked, error=error.message)
            )
        return to_wire(RunAck(success=True, acked=result.acked))

    async def _heartbeat(self, connection: Connection, node_id: str, heartbeat: Heartbeat) -> Ack:
        if not self._connections.is_ready(connection):
            # After a goodbye it would bring the node back to life.
            return _failure("not_registered", "register first")
        by_key = {(str(run.subtask_id), run.attempt): run for run in heartbeat.runs}
        superseded = await self._store.nodes.heartbeat(
            node_id,
            list(by_key),
            draining=heartbeat.status == "draining",
            free_slots=heartbeat.free_slots,
        )
        names = [
            RunName(subtask_id=by_key[key].subtask_id, attempt=by_key[key].attempt)
            for key in superseded
        ]
        return to_wire(HeartbeatAck(superseded=names))

    async def _unregister(
        self, connection: Connection, node_id: str, unregister: Unregister
    ) -> Ack:
        self._connections.not_ready(connection)
        # A verdict that it sent before counts.
        await self._connections.settled(node_id)
        if self._connections.replaced(connection):
            return {"success": True}  # it is back already
        left = {
            (str(run.subtask_id), run.attempt) for run in unregister.runs if run.state != "finished"
        }
        farewell = await self._store.nodes.unregister(node_id, left)
        logger.info("executor %s has said goodbye: %s", node_id, unregister.reason)
        for run_id in farewell.unreachable:
            logger.info("run %s waits for executor %s to come back", run_id, node_id)
        for run_id in farewell.lost:
            logger.warning("run %s does not wait for its executor, which has stopped", run_id)
        for run_id in farewell.returned:
            logger.info("run %s never arrived, and is queued again", run_id)
        return {"success": True}


def _hello(register: Register) -> NodeHello:
    return NodeHello(
        id=register.executor_id,
        capacity=register.max_concurrent_tasks,
        name=register.name,
        hostname=register.hostname,
        platform=register.platform,
        arch=register.arch,
        version=register.version,
        workspace_root=register.workspace_root,
        capabilities=register.capabilities,
        isolation=register.isolation,
    )


def _reported(run: RunReport) -> ReportedRun:
    return ReportedRun(
        run_id=str(run.subtask_id),
        attempt=run.attempt,
        last_seq=run.last_seq,
        needs_dispatch=run.state in ("queued", "interrupted"),
    )


def _standing(run: RunReport, standing: Standing) -> RunStanding:
    told = RunStanding(subtask_id=run.subtask_id, attempt=run.attempt)
    if standing.unknown:
        return told.model_copy(update={"unknown": True})
    if standing.superseded:
        return told.model_copy(update={"superseded": True})
    return told.model_copy(update={"seq": standing.seq})


def _failure(code: str, error: str) -> Ack:
    return to_wire(Failure(code=code, error=error))
