"""Sessions: read only; runs make them, and their events change them."""

from __future__ import annotations

from sqlalchemy import select

from executor_manager.store.database import Database
from executor_manager.store.records import SessionRecord
from executor_manager.store.tables import sessions


class Sessions:
    """The sessions of all users."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, session_id: str) -> SessionRecord | None:
        """One session, or ``None`` when there is none of this id."""
        query = select(sessions).where(sessions.c.id == session_id)
        async with self._database.read() as connection:
            row = (await connection.execute(query)).mappings().one_or_none()
        return None if row is None else SessionRecord(**row)
