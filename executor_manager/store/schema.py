"""Brings a database to the newest schema; the migrations are part of the package."""

from __future__ import annotations

from typing import Final

from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, make_url

_SYNC_DRIVERS: Final = {"sqlite": "sqlite+pysqlite", "postgresql": "postgresql+psycopg"}


def upgrade(url: str) -> None:
    """Apply what is missing. Blocks: call it in a thread."""
    parsed = make_url(url)
    engine = create_engine(parsed.set(drivername=_SYNC_DRIVERS[parsed.get_backend_name()]))
    config = Config()
    config.set_main_option("script_location", "executor_manager.store:migrations")
    try:
        with engine.connect() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    finally:
        engine.dispose()
