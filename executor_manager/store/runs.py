"""Runs: made, read, listed, cancelled."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, RowMapping, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from executor_manager.store.database import DATABASE_NOW, Database, Transaction, to_json
from executor_manager.store.log import append_own
from executor_manager.store.records import OnNodeLoss, RunRecord
from executor_manager.store.tables import runs, sessions
from executor_manager.store.tables import secrets as secrets_table
from executor_manager.store.vault import Vault
from executor_manager.store.verdicts import cancelled_data
from shared.errors import WegentError
from shared.protocol.events import EventType
from shared.status import RunState, can_become

_NOT_SHOWN = {
    "ordinal",
    "idempotency_key",
    "request",  # up to 32 MiB
    "schedule_mode",
    "scheduled_at",
    "dispatch_due",
    "accepted",
    "cancel_due",
}
_RECORD_COLUMNS = tuple(column for column in runs.c if column.name not in _NOT_SHOWN)


class SessionConflict(WegentError):
    """The session belongs to another user."""

    code = "session_conflict"


class KeyConflict(WegentError):
    """The idempotency key was used for another request."""

    code = "idempotency_conflict"


@dataclass(frozen=True, slots=True)
class SealedRun:
    """A run and its request, as they were given to :meth:`Runs.create`."""

    run: RunRecord
    request: dict[str, Any] = field(repr=False)
    """Without its ids, attempt and secrets."""
    _sealed: bytes | None = field(repr=False)
    _vault: Vault = field(repr=False)

    def secrets(self) -> dict[str, Any]:
        """The request's secrets in the clear; empty once the run has a verdict.

        Raises:
            ConfigError: They were encrypted with another key.
        """
        return {} if self._sealed is None else self._vault.open(self._sealed)


class Runs:
    """The runs of all sessions."""

    def __init__(self, database: Database, vault: Vault) -> None:
        self._database = database
        self._vault = vault

    async def create(
        self,
        *,
        user_id: str,
        request: Mapping[str, Any],
        secrets: Mapping[str, Any],
        session_id: str | None = None,
        priority: int = 0,
        on_node_loss: OnNodeLoss = "wait",
        idempotency_key: str | None = None,
    ) -> RunRecord:
        """Put a run into the queue; it is committed when this returns.

        Args:
            request: An ExecutionRequest as JSON, without ids and attempt.
            secrets: What :func:`executor_manager.request_secrets.split` took out of it; kept
                encrypted until the verdict.
            session_id: ``None``: a new session. One that does not exist yet is made.
            idempotency_key: A second call of the same user with the same key and request gives
                the first call's run and makes nothing. Secrets are not compared: they may have
                been renewed, and are gone with the verdict.

        Raises:
            KeyConflict: The key was used for another request.
            SessionConflict: The session belongs to another user.
        """
        async with self._database.write() as transaction:
            if idempotency_key is not None and (
                known := await _read_one(
                    transaction.connection,
                    runs.c.user_id == user_id,
                    runs.c.idempotency_key == idempotency_key,
                )
            ):
                stored = await _request_of(transaction.connection, known.id)
                same_session = session_id in (None, known.session_id)
                if not same_session or to_json(stored) != to_json(request):
                    raise KeyConflict(
                        "the idempotency key was used for another task",
                        hint="take a new key for each task, the same one only to repeat a call",
                    )
                return known
            session_id = await _ensure_session(transaction, session_id, user_id)
            run_id = uuid.uuid4().hex
            made = await transaction.connection.execute(
                insert(runs)
                .values(
                    id=run_id,
                    session_id=session_id,
                    user_id=user_id,
                    idempotency_key=idempotency_key,
                    request=dict(request),
                    priority=priority,
                    schedule_mode="immediate",
                    on_node_loss=on_node_loss,
                    state=RunState.QUEUED.value,
                    attempt=1,
                    unreachable=False,
                    dispatch_due=False,
                    accepted=False,
                    cancel_due=False,
                    last_seq=0,
                    last_sequence=0,
                    progress=0,
                    created_at=DATABASE_NOW,
                )
                .returning(*_RECORD_COLUMNS)
            )
            record = _run_record(made.mappings().one())
            if secrets:
                await transaction.connection.execute(
                    insert(secrets_table).values(
                        run_id=run_id, ciphertext=self._vault.seal(secrets)
                    )
                )
            transaction.run_changed(run_id)
            transaction.queue_changed()
        return record

    async def get(self, run_id: str) -> RunRecord | None:
        """One run, or ``None`` when there is none of this id."""
        async with self._database.read() as connection:
            return await _read_one(connection, runs.c.id == run_id)

    async def by_key(self, user_id: str, idempotency_key: str) -> RunRecord | None:
        """The run that this user made with this key, or ``None``."""
        async with self._database.read() as connection:
            return await _read_one(
                connection, runs.c.user_id == user_id, runs.c.idempotency_key == idempotency_key
            )

    async def page(
        self,
        *,
        limit: int,
        state: RunState | None = None,
        session_id: str | None = None,
        before: str | None = None,
    ) -> list[RunRecord]:
        """The newest runs first, at most *limit*; only those older than the run *before*."""
        query = select(*_RECORD_COLUMNS).order_by(runs.c.ordinal.desc()).limit(limit)
        if state is not None:
            query = query.where(runs.c.state == state.value)
        if session_id is not None:
            query = query.where(runs.c.session_id == session_id)
        if before is not None:
            older = select(runs.c.ordinal).where(runs.c.id == before).scalar_subquery()
            query = query.where(runs.c.ordinal < older)
        async with self._database.read() as connection:
            return [_run_record(row) for row in (await connection.execute(query)).mappings()]

    async def of_session(self, session_id: str) -> dict[str, RunState]:
        """The states of the session's runs by their ids, in order of arrival."""
        query = (
            select(runs.c.id, runs.c.state)
            .where(runs.c.session_id == session_id)
            .order_by(runs.c.ordinal)
        )
        async with self._database.read() as connection:
            return {id_: RunState(state) for id_, state in await connection.execute(query)}

    async def counts(self) -> dict[RunState, int]:
        """How many live runs are in each state; states without runs are absent."""
        query = (
            select(runs.c.state, func.count())
            .where(runs.c.finished_at.is_(None))
            .group_by(runs.c.state)
        )
        async with self._database.read() as connection:
            return {RunState(state): n for state, n in await connection.execute(query)}

    async def with_request(self, run_id: str) -> SealedRun | None:
        """One run with its request, or ``None`` when there is none of this id."""
        query = (
            select(*_RECORD_COLUMNS, runs.c.request, secrets_table.c.ciphertext)
            .outerjoin(secrets_table, secrets_table.c.run_id == runs.c.id)
            .where(runs.c.id == run_id)
        )
        async with self._database.read() as connection:
            row = (await connection.execute(query)).mappings().one_or_none()
        if row is None:
            return None
        fields = dict(row)
        request, sealed = fields.pop("request"), fields.pop("ciphertext")
        return SealedRun(_run_record(fields), request, sealed, self._vault)

    async def cancel(self, run_id: str, reason: str | None = None) -> RunRecord | None:
        """Ask for the end of a run.

        A queued run is cancelled when this returns, and so is an unreachable one, whose node learns
        it should it come back; one on a node becomes ``cancelling``, and the node is told; a run
        with a verdict stays as it is.

        Returns:
            The run as it is now, or ``None`` when there is none of this id.
        """
        async with self._database.write() as transaction:
            run = await _read_one(transaction.connection, runs.c.id == run_id)
            if run is None:
                return None
            if run.state is RunState.QUEUED or run.unreachable:
                await append_own(transaction, run_id, EventType.CANCELLED, cancelled_data(reason))
            elif can_become(run.state, RunState.CANCELLING):
                await transaction.connection.execute(
                    update(runs)
                    .where(runs.c.id == run_id)
                    .values(
                        state=RunState.CANCELLING.value,
                        cancel_reason=reason,
                        cancel_due=True,
                        dispatch_due=False,
                    )
                )
                transaction.run_changed(run_id)
                transaction.queue_changed()
            return await _read_one(transaction.connection, runs.c.id == run_id)


def _run_record(row: RowMapping | Mapping[str, Any]) -> RunRecord:
    """A row of :data:`_RECORD_COLUMNS` as a record."""
    return RunRecord(**{**row, "state": RunState(row["state"])})


async def _read_one(
    connection: AsyncConnection, *conditions: ColumnElement[bool]
) -> RunRecord | None:
    rows = await connection.execute(select(*_RECORD_COLUMNS).where(*conditions))
    row = rows.mappings().one_or_none()
    return None if row is None else _run_record(row)


async def _request_of(connection: AsyncConnection, run_id: str) -> dict[str, Any]:
    rows = await connection.execute(select(runs.c.request).where(runs.c.id == run_id))
    request: dict[str, Any] = rows.scalar_one()
    return request


async def _ensure_session(transaction: Transaction, session_id: str | None, user_id: str) -> str:
    connection = transaction.connection
    if session_id is not None:
        owner = (
            await connection.execute(select(sessions.c.user_id).where(sessions.c.id == session_id))
        ).scalar_one_or_none()
        if owner is not None:
            if owner != user_id:
                raise SessionConflict(
                    "this session belongs to another user",
                    hint="leave out session_id to begin a session of your own",
                )
            return session_id
    session_id = session_id or uuid.uuid4().hex
    await connection.execute(
        insert(sessions).values(
            id=session_id, user_id=user_id, created_at=DATABASE_NOW, updated_at=DATABASE_NOW
        )
    )
    return session_id
