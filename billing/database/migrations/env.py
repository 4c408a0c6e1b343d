"""Alembic's entry: runs the migrations on the connection that `billing.database.migrations.upgrade` hands in."""

from alembic import context

from billing.models import metadata

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=metadata,
    render_as_batch=connection.dialect.name == "sqlite",  # SQLite cannot ALTER a column
    compare_type=True,
)
with context.begin_transaction():
    context.run_migrations()
