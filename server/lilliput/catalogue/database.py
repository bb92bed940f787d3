"""One SQLite file: how it is opened, brought to the newest schema, and how its faults are told."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from lilliput.catalogue.schema import SCHEMA_REVISION
from lilliput.errors import DiskFull, StorageError

BUSY_TIMEOUT_MS = 10_000
_SQLITE_FULL = 13
_SQLITE_DAMAGED = frozenset({11, 26})  # SQLITE_CORRUPT, SQLITE_NOTADB


class Database:
    """A SQLite database at ``path``: write-ahead log, commits are on disk when they return; any thread may use it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._engine: Engine | None = None

    def open(self) -> None:
        """Open or create the file, check that it is sound, migrate it to the newest schema; StorageError otherwise."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(
                f"the data directory {self.path.parent} cannot be made: {error.strerror or error}",
                hint="choose a directory that can be written with LILLIPUT_DATA_DIR",
            ) from error
        engine = create_engine(URL.create("sqlite", database=str(self.path)))
        event.listen(engine, "connect", _configure)
        event.listen(engine, "begin", _begin)
        self._engine = engine
        try:
            with self.connection(writes=True) as connection:
                self._check(connection)
                self._migrate(connection)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close all connections; twice is fine."""
        if self._engine is not None:
            self._engine.dispose()
            self._engine = None

    @contextmanager
    def connection(self, *, writes: bool = False) -> Iterator[Connection]:
        """A connection in a transaction: committed at the end, rolled back by an exception; raises StorageError."""
        if self._engine is None:
            raise StorageError(f"the database {self.path} is not open")
        # A transaction that will write takes the write lock at once: upgrading a read lock later can deadlock.
        engine = self._engine.execution_options(begin="IMMEDIATE" if writes else "DEFERRED")
        try:
            with engine.begin() as connection:
                yield connection
        except (SQLAlchemyError, sqlite3.Error) as error:
            raise self._fault(error) from error

    def _check(self, connection: Connection) -> None:
        verdict = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar()
        if verdict != "ok":
            raise self._damaged(str(verdict))

    def _migrate(self, connection: Connection) -> None:
        tables = set(connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'table'").scalars())
        revision = None
        if "alembic_version" in tables:
            revision = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
        elif tables:
            raise StorageError(
                f"{self.path} is a database, but not one of lilliput",
                hint="move it away, or choose another directory with LILLIPUT_DATA_DIR",
            )
        if revision != SCHEMA_REVISION:
            from lilliput.catalogue.migration import upgrade  # Alembic is slow to import and rarely needed

            upgrade(connection, self.path, revision)

    def _fault(self, error: SQLAlchemyError | sqlite3.Error) -> StorageError:
        origin = error.orig if isinstance(error, DBAPIError) else error
        code = (getattr(origin, "sqlite_errorcode", None) or 0) & 0xFF  # the low byte is SQLite's primary result code
        text = str(origin or error)
        if code == _SQLITE_FULL:
            return DiskFull(f"the disk is full: {self.path} cannot be written", hint="free some space and try again")
        if code in _SQLITE_DAMAGED:
            return self._damaged(text)
        return StorageError(
            f"the database {self.path} cannot be used: {text}",
            hint="check that the directory can be written and that no other program holds the file",
        )

    def _damaged(self, detail: str) -> StorageError:
        return StorageError(
            f"the database {self.path} is damaged: {detail}",
            hint="move it away and start again; models pulled before are still in the cache, so pulling them is quick",
        )


def _configure(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # transactions begin where _begin says, not where the driver guesses
    cursor = connection.cursor()
    try:
        cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.execute("PRAGMA foreign_keys = ON")
    finally:
        cursor.close()


def _begin(connection: Connection) -> None:
    mode = connection.get_execution_options().get("begin", "DEFERRED")
    connection.exec_driver_sql(f"BEGIN {mode}")
