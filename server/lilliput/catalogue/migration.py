"""Bring a database to the newest schema with Alembic."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection

from lilliput.errors import StorageError

_SCRIPTS = Path(__file__).parent / "migrations"


def upgrade(connection: Connection, path: Path, revision: str | None) -> None:
    """Migrate from ``revision`` (None: empty) inside the open transaction; StorageError if it is a later version's."""
    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    config.attributes["connection"] = connection
    if revision is not None:
        try:
            ScriptDirectory.from_config(config).get_revision(revision)
        except CommandError as error:
            raise StorageError(
                f"the database {path} was written by a newer lilliput (schema {revision})",
                hint="upgrade lilliput, or choose another directory with LILLIPUT_DATA_DIR",
            ) from error
    command.upgrade(config, "head")
