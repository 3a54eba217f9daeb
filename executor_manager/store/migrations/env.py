"""Run by Alembic; the connection is given by :mod:`executor_manager.store.schema`."""

from __future__ import annotations

from alembic import context

from executor_manager.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,  # SQLite alters a table by making it anew
    transactional_ddl=True,  # SQLite can; Alembic leaves it out since the driver alone would not
)
with context.begin_transaction():
    context.run_migrations()
