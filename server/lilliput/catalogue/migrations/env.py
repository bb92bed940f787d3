"""What Alembic runs to migrate: one transaction on the connection that the caller hands over."""

from __future__ import annotations

from alembic import context

from lilliput.catalogue.schema import METADATA

connection = context.config.attributes["connection"]
# SQLite can roll DDL back, so a process killed in mid-migration leaves the old schema whole.
context.configure(connection=connection, target_metadata=METADATA, transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
