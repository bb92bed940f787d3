"""The tables of the catalogue's database; the migrations build exactly these."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Float, ForeignKey, Index, Integer, MetaData, Table, Text

SCHEMA_REVISION = "0001"
"""The newest migration: a database at this revision is opened without importing Alembic."""

METADATA = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
    }
)

MODEL = Table(
    "model",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("key", Text, nullable=False),  # the folded name: what lookups compare
    Column("name", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("repo", Text),
    Column("revision", Text),
    Column("quantization", Text),
    Column("architecture", Text),
    Column("context_length", BigInteger),
    Column("parameter_count", BigInteger),
    Column("license", Text),
    Column("installed_at", Float, nullable=False),
    Index("ix_model_key", "key", unique=True),
)

MODEL_FILE = Table(
    "model_file",
    METADATA,
    Column("model_id", Integer, ForeignKey("model.id", ondelete="CASCADE"), primary_key=True),
    Column("position", Integer, primary_key=True),  # load order
    Column("path", Text, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("sha256", Text),
)

JOB = Table(
    "job",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    Column("body", Text, nullable=False),  # a JSON object; only the owner of jobs knows its fields
)

FACT = Table(
    "fact",
    METADATA,
    Column("key", Text, primary_key=True),
    Column("value", Text, nullable=False),
)
