"""Brings a database to the newest schema; the migrations are part of the package."""

from __future__ import annotations

from typing import Final

from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, event, make_url

from executor_manager.store.database import begin_immediate, prepare_sqlite

_SYNC_DRIVERS: Final = {"sqlite": "sqlite+pysqlite", "postgresql": "postgresql+psycopg"}


def upgrade(url: str) -> None:
    """Apply what is missing, all of it or nothing. Blocks: call it in a thread.

    Another process that does the same is waited for.
    """
    parsed = make_url(url)
    engine = create_engine(parsed.set(drivername=_SYNC_DRIVERS[parsed.get_backend_name()]))
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", prepare_sqlite)
        event.listen(engine, "begin", begin_immediate)
    config = Config()
    config.set_main_option("script_location", "executor_manager.store:migrations")
    try:
        with engine.connect() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    finally:
        engine.dispose()
