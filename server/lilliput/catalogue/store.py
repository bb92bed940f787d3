"""What is installed, which jobs there are, and what was found out before: the daemon's memory on disk."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select
from sqlalchemy.dialects.sqlite import insert as upsert

from lilliput.catalogue.database import Database
from lilliput.catalogue.records import InstalledFile, InstalledModel
from lilliput.catalogue.schema import FACT, JOB, MODEL, MODEL_FILE

DATABASE_NAME = "lilliput.db"


@dataclass(frozen=True, slots=True)
class StoredJob:
    """A job as it lies on disk; ``body`` is a JSON object that only the owner of jobs reads. Times in unix seconds."""

    id: str
    kind: str
    state: str
    created_at: float
    updated_at: float
    body: Mapping[str, Any]


class Store:
    """The database ``lilliput.db`` in a data directory. Synchronous and thread-safe; a call that returned is on disk.

    Names are compared without regard to case. All methods raise StorageError when the disk or the file refuses.
    """

    def __init__(self, data_dir: Path) -> None:
        self._database = Database(data_dir / DATABASE_NAME)

    @property
    def path(self) -> Path:
        """The database file."""
        return self._database.path

    def open(self) -> None:
        """Open or create the database and migrate it; StorageError if it is damaged, foreign or of a newer version."""
        self._database.open()

    def close(self) -> None:
        """Close it; twice is fine."""
        self._database.close()

    def installed(self) -> tuple[InstalledModel, ...]:
        """All installed models, by name."""
        with self._database.connection() as connection:
            return _read_models(connection)

    def get(self, name: str) -> InstalledModel | None:
        """The model of exactly this name, else None."""
        with self._database.connection() as connection:
            return _read_model(connection, name)

    def find(self, predicate: Callable[[InstalledModel], bool]) -> tuple[InstalledModel, ...]:
        """The installed models that satisfy ``predicate``, by name."""
        return tuple(model for model in self.installed() if predicate(model))

    def add(self, model: InstalledModel) -> None:
        """Register ``model`` with all its files at once, in place of one of the same name."""
        row = {column: getattr(model, column) for column in _MODEL_COLUMNS}
        with self._database.connection(writes=True) as connection:
            connection.execute(delete(MODEL).where(MODEL.c.key == _fold(model.name)))
            created = connection.execute(insert(MODEL).values(key=_fold(model.name), **row))
            assert created.inserted_primary_key is not None
            model_id = created.inserted_primary_key[0]
            for position, file in enumerate(model.files):
                connection.execute(
                    insert(MODEL_FILE).values(
                        model_id=model_id,
                        position=position,
                        path=str(file.path),
                        size_bytes=file.size_bytes,
                        sha256=file.sha256,
                    )
                )

    def remove(self, name: str) -> InstalledModel | None:
        """Unregister a model and return what it was (None if there was none); its files are left alone."""
        with self._database.connection(writes=True) as connection:
            model = _read_model(connection, name)
            connection.execute(delete(MODEL).where(MODEL.c.key == _fold(name)))
            return model

    def save_job(self, job: StoredJob) -> None:
        """Write a job, in place of its earlier state."""
        row = {
            "kind": job.kind,
            "state": job.state,
            "created_at": job.created_at,
            "updated_at": job.updated_at,
            "body": json.dumps(dict(job.body)),
        }
        with self._database.connection(writes=True) as connection:
            statement = upsert(JOB).values(id=job.id, **row)
            connection.execute(statement.on_conflict_do_update(index_elements=[JOB.c.id], set_=row))

    def load_jobs(self) -> tuple[StoredJob, ...]:
        """All jobs, oldest first."""
        with self._database.connection() as connection:
            rows = connection.execute(select(JOB).order_by(JOB.c.created_at, JOB.c.id)).all()
        return tuple(
            StoredJob(row.id, row.kind, row.state, row.created_at, row.updated_at, json.loads(row.body)) for row in rows
        )

    def delete_jobs(self, ids: Iterable[str]) -> None:
        """Forget these jobs; unknown ids are passed over."""
        with self._database.connection(writes=True) as connection:
            for job_id in ids:
                connection.execute(delete(JOB).where(JOB.c.id == job_id))

    def get_fact(self, key: str) -> str | None:
        """What was remembered under ``key``, else None."""
        with self._database.connection() as connection:
            value: str | None = connection.execute(select(FACT.c.value).where(FACT.c.key == key)).scalar()
            return value

    def find_facts(self, prefix: str) -> dict[str, str]:
        """All that is remembered under keys that begin with ``prefix``."""
        with self._database.connection() as connection:
            rows = connection.execute(select(FACT).where(FACT.c.key.startswith(prefix, autoescape=True))).all()
        return {row.key: row.value for row in rows if row.key.startswith(prefix)}

    def set_fact(self, key: str, value: str | None) -> None:
        """Remember ``value`` under ``key``; None forgets it."""
        with self._database.connection(writes=True) as connection:
            if value is None:
                connection.execute(delete(FACT).where(FACT.c.key == key))
                return
            statement = upsert(FACT).values(key=key, value=value)
            connection.execute(statement.on_conflict_do_update(index_elements=[FACT.c.key], set_={"value": value}))


_MODEL_COLUMNS = tuple(column.name for column in MODEL.columns if column.name not in {"id", "key"})


def _fold(name: str) -> str:
    return name.casefold()


def _read_model(connection: Connection, name: str) -> InstalledModel | None:
    row = connection.execute(select(MODEL).where(MODEL.c.key == _fold(name))).one_or_none()
    if row is None:
        return None
    files = connection.execute(
        select(MODEL_FILE).where(MODEL_FILE.c.model_id == row.id).order_by(MODEL_FILE.c.position)
    )
    return _model(row, files)


def _read_models(connection: Connection) -> tuple[InstalledModel, ...]:
    files: dict[int, list[Row[Any]]] = {}
    for row in connection.execute(select(MODEL_FILE).order_by(MODEL_FILE.c.model_id, MODEL_FILE.c.position)):
        files.setdefault(row.model_id, []).append(row)
    models = connection.execute(select(MODEL).order_by(MODEL.c.key)).all()
    return tuple(_model(row, files.get(row.id, ())) for row in models)


def _model(row: Row[Any], files: Iterable[Row[Any]]) -> InstalledModel:
    fields = {column: getattr(row, column) for column in _MODEL_COLUMNS}
    return InstalledModel(
        files=tuple(InstalledFile(Path(file.path), file.size_bytes, file.sha256) for file in files), **fields
    )
